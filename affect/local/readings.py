"""Readings as a sequence that becomes a table, a file or a plot."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from affect.card import ModelCard
from affect.local import table
from affect.local.reading import LocalReading

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure


class Readings(Sequence[LocalReading]):
    """One entry a face, in the order of the pictures; pictures without one have an entry with
    `error`.
    """

    def __init__(self, entries: Iterable[LocalReading], card: ModelCard) -> None:
        self._entries, self.card = tuple(entries), card

    @overload
    def __getitem__(self, index: int) -> LocalReading: ...
    @overload
    def __getitem__(self, index: slice) -> "Readings": ...
    def __getitem__(self, index: int | slice) -> "LocalReading | Readings":
        if isinstance(index, slice):
            return Readings(self._entries[index], self.card)
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LocalReading]:
        return iter(self._entries)

    def __repr__(self) -> str:
        failed = len(self.errors)
        return f"Readings({len(self) - failed} faces, {failed} errors)"

    @property
    def faces(self) -> "Readings":
        """Entries with a face."""
        return Readings((one for one in self if one.error is None), self.card)

    @property
    def errors(self) -> "Readings":
        """Entries without one."""
        return Readings((one for one in self if one.error is not None), self.card)

    def to_arrow(self) -> "pa.Table":
        """A pyarrow table with the columns of `affect.local.table`."""
        return table.to_arrow(self, self.card.vocabulary)

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a data frame; whole numbers and flags that may be missing keep their
        types.
        """
        import pandas as pd

        kinds = {str: "string", int: "Int64", float: "float64", bool: "boolean"}
        rows = [table.row(reading, self.card.vocabulary) for reading in self]
        columns = table.columns(self.card.vocabulary)
        frame = pd.DataFrame.from_records(rows, columns=list(columns))
        return frame.astype({name: kinds[kind] for name, kind in columns.items()})

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write x.csv, x.parquet or x.jsonl. Raises TableError for another name, and for a file
        that is there already.
        """
        path = Path(path)
        table.check_suffix(path)
        if path.exists() and not overwrite:
            raise table.TableError(
                f"{path} exists: give another name, or overwrite=True to replace it"
            )
        writer = table.open_writer(path, self.card.vocabulary)
        try:
            writer.write(self)
        finally:
            writer.close()
        return path

    def plot(self) -> "Figure":
        """Action Units as a heat map over the entries, and valence and arousal in the
        circumplex. Raises ValueError without a face.
        """
        from affect.local.plots import plot

        if not self.faces:
            raise ValueError(
                f"none of {len(self)} entries has a face: there is nothing to plot; see .errors"
            )
        return plot(self.faces)
