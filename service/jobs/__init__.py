"""Requests whose answer is fetched later, and their webhooks."""
