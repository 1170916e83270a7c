"""Tables that a run wrote."""

import csv
import json
from pathlib import Path
from typing import Any

from pyarrow import parquet


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a .csv (all strings), .parquet or .jsonl file."""
    if path.suffix == ".parquet":
        return list(parquet.read_table(path).to_pylist())
    with path.open() as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [*map(json.loads, file)]
