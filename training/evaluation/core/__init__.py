"""Predictions of a split, metrics and paired tests."""
