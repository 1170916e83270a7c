"""The independent network that grades what a model draws."""
