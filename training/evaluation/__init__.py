"""How good a run is: figures with intervals and pictures, judged by an independent network."""
