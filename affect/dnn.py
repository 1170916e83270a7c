"""Small networks that `cv2.dnn` runs, read from a file of the package."""

import threading
from collections.abc import Callable
from pathlib import Path

import cv2


class ThreadLocalNetwork:
    """A network of its own for every thread, since cv2.dnn keeps state between calls.

    Raises FileNotFoundError, with the remedy, when the file is missing.
    """

    def __init__(self, path: Path, read: Callable[[str], cv2.dnn.Net], remedy: str) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {remedy}")
        self._path, self._read = path, read
        self._local = threading.local()

    def __call__(self) -> cv2.dnn.Net:
        if not hasattr(self._local, "network"):
            self._local.network = self._read(str(self._path))
        network: cv2.dnn.Net = self._local.network
        return network
