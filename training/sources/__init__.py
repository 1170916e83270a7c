"""Readers of annotated face sets, one file a format, and their import into a database."""
