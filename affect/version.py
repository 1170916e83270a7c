"""The version of all packages, which is that of the code in an archive."""

__version__ = "0.1.0"
