"""The landmark network that turns a face finder's box into pupils, nose tip and mouth corners:
trained on renders.
"""
