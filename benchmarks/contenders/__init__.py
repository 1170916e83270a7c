"""The same reading of one picture, as a user of each model server would write it for that
server.
"""
