"""A folder of photographs without annotations, searched with all its subfolders.

Every picture shows another person unless a CSV says who is who: columns `image` (path from the
folder) and `identity`. Pictures that the CSV does not name are people of their own.
"""

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from training.database.card import DataError
from training.sources.record import PICTURE_SUFFIXES, Item, Record, Refusal, Source, visible

IMAGE, IDENTITY = "image", "identity"


class Pictures(Source):
    """Photographs without labels."""

    name, title = "pictures", "pictures"
    labelled = "photographs that nobody has annotated"

    def vocabulary(self) -> tuple[str, ...]:
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder: give the folder of the photographs")
        if not self._paths:
            suffixes = ", ".join(PICTURE_SUFFIXES)
            raise DataError(f"{self.root} holds no picture ({suffixes}), nor do its subfolders")
        _ = self._people  # fails at once when the CSV is invalid
        return ()

    @property
    def licence(self) -> str:
        """As its user states it."""
        return self.options.licence or "not stated; not for passing on"

    def items(self) -> Iterator[Item]:
        for path in self._paths:
            name = path.relative_to(self.root).as_posix()
            identity = self._people.get(name, (name, 0))[0]
            yield Record(
                where=name,
                picture=path,
                labels={},
                annotated=False,
                identity=identity,
                unit=identity,
                truth={"picture": name},
            )
        present = {path.relative_to(self.root).as_posix() for path in self._paths}
        for name, (_, line) in self._people.items():
            if name not in present:
                people_file = self.options.people
                assert people_file is not None
                yield Refusal(f"{people_file.name}:{line}", f"{self.root} has no picture {name!r}")

    @cached_property
    def _paths(self) -> list[Path]:
        return visible(
            path
            for path in self.root.rglob("*")
            if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
        )

    @cached_property
    def _people(self) -> dict[str, tuple[str, int]]:
        """(identity, line of the CSV) by the picture's path from the folder."""
        path = self.options.people
        if path is None:
            return {}
        if not path.is_file():
            raise DataError(f"--people is {path}, which is no file: give a CSV of image,identity")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {IMAGE, IDENTITY} <= set(rows.fieldnames or ()):
                raise DataError(
                    f"the header of {path} is {rows.fieldnames}; it needs {IMAGE} and {IDENTITY}"
                )
            return {
                row[IMAGE]: (row[IDENTITY], rows.line_num)
                for row in rows
                if row[IMAGE] and row[IDENTITY]
            }
