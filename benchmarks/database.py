"""What a database costs per picture, from a thousand rows to a million: opening, starting a stream,
an epoch's order, reading, memory.

python benchmarks/database.py --pictures DATABASE --out SCRATCH [--rows 1000 --rows 10000 ...]
[--json FILE]

Pictures are those of one shard of DATABASE: every shard of a made database is a link to it. Labels,
people and splits are simulated. Each size is measured in a process of its own. The decoded-picture
cache is off: it would hide what reading costs.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from affect.labels import DIMENSIONS
from training.database import stream
from training.database.card import CARD_FILE
from training.database.reader import Database
from training.database.sample import SPLITS, split_of
from training.database.writer import SHARD, schema

SIZES = (1_000, 10_000, 100_000, 1_000_000)
TWINS = 4
BATCH_IMAGES, BATCHES = 64, 40
HEADS = {
    "rows": "rows",
    "open_us": "open, us a row",
    "start_us": "start stream, us a row",
    "order_us": "order of an epoch, us a row",
    "batch_us": "read in batches, us a picture",
    "random_us": "read at random, us a picture",
    "index_bytes": "index on disk, bytes a row",
    "memory_bytes": "memory, bytes a row",
    "memory_mib": "memory, MiB in all",
}


@click.command()
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="database whose first shard lends its pictures",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="scratch folder")
@click.option("--rows", "sizes", type=int, multiple=True, default=SIZES, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="also write the figures here")
def main(pictures: Path, out: Path, sizes: tuple[int, ...], file: Path | None) -> None:
    """Measure and print a table."""
    idle = _measured("--idle", pictures)["memory_mib"]
    figures = []
    for rows in sizes:
        folder = out / f"rows-{rows}"
        make(pictures, folder, rows)
        measured = _measured("--measure", folder)
        measured["memory_bytes"] = (measured["memory_mib"] - idle) * 2**20 / rows
        figures.append(measured)
        shutil.rmtree(folder)
    click.echo("| " + " | ".join(HEADS.values()) + " |\n|" + "---|" * len(HEADS))
    for measured in figures:
        click.echo(
            "| "
            + " | ".join(
                f"{measured[name]:,.0f}" if measured[name] >= 100 else f"{measured[name]:.2f}"
                for name in HEADS
            )
            + " |"
        )
    if file:
        file.write_text(json.dumps(figures, indent=1) + "\n")


def make(pictures: Path, folder: Path, rows: int) -> None:
    """A database of `rows` rows whose shards are links to the first shard of another."""
    lender = Database.open(pictures)
    template = lender.shard(lender.shards[0]).drop_columns(["shard"])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(pictures / CARD_FILE, folder)
    shutil.copy(pictures / f"{SHARD.format(lender.shards[0])}.tar", folder / "pictures")
    rng = np.random.default_rng(0)
    for number, first in enumerate(range(0, rows, len(template))):
        table = simulated(template.slice(0, min(len(template), rows - first)), lender, first, rng)
        pq.write_table(table, folder / f"{SHARD.format(number)}.parquet")
        os.link(folder / "pictures", folder / f"{SHARD.format(number)}.tar")


def simulated(table: pa.Table, lender: Database, first: int, rng: np.random.Generator) -> pa.Table:
    """The table with other keys, people, splits and labels."""
    numbers = np.arange(first, first + len(table))
    people = [f"p{number // (2 * TWINS):08d}" for number in numbers]
    split = {person: split_of("simulated", person) for person in set(people)}
    columns: dict[str, list[str] | np.ndarray] = {
        "key": [f"k{number:09d}" for number in numbers],
        "identity": people,
        "split": [split[person] for person in people],
        "twin_group": [f"g{number // TWINS:09d}" for number in numbers],
    }
    for name in lender.card.vocabulary:
        columns[name] = np.where(rng.random(len(table)) < 0.8, 0.0, rng.random(len(table)).round(4))
    for name in DIMENSIONS:
        columns[name] = (2 * rng.random(len(table)) - 1).round(4)
    types = schema(lender.card)
    return pa.table(
        {
            name: pa.array(columns[name], types.field(name).type)
            if name in columns
            else table[name]
            for name in types.names
        }
    )


def measure(folder: Path) -> dict[str, float]:
    """Costs per row and per picture of one database, here and now."""
    stream.CACHE_BYTES = 0
    begin = time.perf_counter()
    database = Database.open(folder)
    rows = sum(database.count(split) for split in SPLITS)
    opened_at = time.perf_counter()
    with stream.Stream(
        database, split="train", size_px=64, batch_images=BATCH_IMAGES, seed=0
    ) as batches:
        started = time.perf_counter()
        batches.rows(0)
        ordered = time.perf_counter()
        for number in range(BATCHES):
            batches.batch(number)
        read = time.perf_counter()
    random_rows = np.random.default_rng(0).integers(
        0, database.count("train"), BATCHES * BATCH_IMAGES
    )
    database.images("train", random_rows[:1], 64)
    before_random = time.perf_counter()
    database.images("train", random_rows, 64)
    finished_at = time.perf_counter()
    return {
        "rows": rows,
        "open_us": 1e6 * (opened_at - begin) / rows,
        "start_us": 1e6 * (started - opened_at) / rows,
        "order_us": 1e6 * (ordered - started) / rows,
        "batch_us": 1e6
        * (read - ordered)
        / (2 * BATCHES * BATCH_IMAGES),  # every picture comes with a twin
        "random_us": 1e6 * (finished_at - before_random) / len(random_rows),
        "index_bytes": sum(path.stat().st_size for path in folder.glob("*.parquet")) / rows,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def _measured(how: str, folder: Path) -> dict[str, float]:
    finished_at = subprocess.run(
        [sys.executable, __file__, how, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path.cwd(),
    )
    measured: dict[str, float] = json.loads(finished_at.stdout)
    return measured


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    elif sys.argv[1:2] == ["--idle"]:
        print(
            json.dumps({"memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10})
        )
    else:
        main()
