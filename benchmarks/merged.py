"""From seven annotated sets and renders to one dual-annotated database, described, and a smoke
training run on it; then broken sets.

python -m benchmarks.merged --out FOLDER [--people 16] [--states 12] [--renders 4096] [--size 64]

The sets are stand-ins in the layouts of their authors (`sets.py`). Everything goes through the
commands that a user types; a stopped run of this file goes on.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.sets import LAYOUTS, spoil

AFFECTGAN = (sys.executable, "-m", "affect.cli")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--people", type=int, default=16, show_default=True, help="in each set")
@click.option(
    "--states", type=int, default=12, show_default=True, help="pictures of each person in a set"
)
@click.option("--renders", type=int, default=4096, show_default=True)
@click.option("--size", "size_px", type=int, default=64, show_default=True)
def main(out: Path, people: int, states: int, renders: int, size_px: int) -> None:
    """Print what every command says, and how long it took."""
    out = out.resolve()
    for name, layout in LAYOUTS.items():
        if not (out / "sets" / name).is_dir():
            layout.make(out / "sets" / f"{name}.part", people, states)
            (out / "sets" / f"{name}.part").rename(out / "sets" / name)
        bring_in(out / "sets" / name, out / "imported" / name, name, size_px)
    affectgan(
        "data",
        "render",
        "--out",
        out / "rendered",
        "--images",
        renders,
        "--size",
        size_px,
        "--seed",
        31,
    )
    parts = [*(out / "imported" / name for name in LAYOUTS), out / "rendered"]
    affectgan("data", "merge", *parts, "--out", out / "merged", "--name", "merged")
    affectgan("data", "describe", out / "merged")
    if not (out / "run").is_dir():
        affectgan(
            "train",
            "--data",
            out / "merged",
            "--labels",
            "both",
            "--preset",
            "smoke",
            "--out",
            out / "run",
        )
    for name in LAYOUTS:
        if not (out / "broken" / name).is_dir():
            shutil.copytree(out / "sets" / name, out / "broken" / name)
            spoil(out / "broken" / name)
        bring_in(out / "broken" / name, out / "salvaged" / name, name, size_px)
    affectgan(
        "data", "import", "bp4d", out / "sets" / "disfa", "--out", out / "nothing", fails=True
    )


def bring_in(root: Path, out: Path, name: str, size_px: int) -> None:
    """Import a set."""
    crops = ["--aligned"] if LAYOUTS[name].aligned else []
    affectgan(
        "data", "import", name, root / LAYOUTS[name].path, "--out", out, "--size", size_px, *crops
    )


def affectgan(*words: object, fails: bool = False) -> None:
    """Run a command and print it with what it prints."""
    begin = time.monotonic()
    done = subprocess.run([*AFFECTGAN, *map(str, words)], capture_output=True, text=True)
    click.echo(
        "$ affectgan "
        f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr if fails else ''}"
        f"[{time.monotonic() - begin:.0f} s]\n"
    )
    if (done.returncode != 0) != fails:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()
