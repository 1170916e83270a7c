"""Evaluation of a run, written as JSON and HTML."""
