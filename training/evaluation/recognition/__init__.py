"""How well a model reads faces."""
