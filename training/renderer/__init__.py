"""Faces rendered from known people, known light and known Action Units: training data that anyone
can make.
"""
