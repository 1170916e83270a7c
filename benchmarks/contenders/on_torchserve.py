"""Bare TorchServe: one handler that takes a picture and gives JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders.reader import Reader


class PictureHandler:
    """A batch of pictures."""

    def initialize(self, _: object) -> None:
        """Load the model."""
        self.reader = Reader()

    def handle(self, data: Sequence[Mapping[str, Any]], _: object) -> list[dict[str, Any]]:
        """One reading for each picture."""
        return self.reader.read([self.reader.find(bytes(row["body"])) for row in data])
