"""How good a run is, in figures with intervals and in pictures, judged by a network that had no
part in it.
"""
