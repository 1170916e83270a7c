"""Adds the shipped weights to the wheel, as the data-only package `affectgan_weights`; all else is
in pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["affect*", "training*", "handlers*", "service*", "scoring*"]),
        "affectgan_weights",
        "affectgan_weights.judge",
    ],
    package_dir={"affectgan_weights": "weights"},
)
