"""The landmark network that turns a face finder's box into eye centres, nose tip and mouth corners:
trained on renders.
"""
