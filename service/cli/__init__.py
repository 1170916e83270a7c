"""Commands: serve, client, models, demo."""
