"""Who may ask, and how much: API keys, JWTs, rate limits."""
