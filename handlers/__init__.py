"""What TorchServe runs: predict, generate, explain.

Each file holds one class and goes into one archive.
"""
