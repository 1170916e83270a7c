"""Authentication and rate limits: API keys, JWTs, quotas."""
