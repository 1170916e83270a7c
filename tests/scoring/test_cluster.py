"""The same table from a Ray cluster of two models, one of which is killed meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from scoring.commands import score
from scoring.sources import SourceError
from tests.support.waiting import until

ray = pytest.importorskip("ray")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """On this machine, with room for two models and the tasks beside them."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def _readers() -> list[psutil.Process]:
    """Processes of this cluster that hold a model."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "MapWorker" in " ".join(child.cmdline())
    ]


@pytest.mark.slow
def test_whoever_dies_the_table_is_the_same(
    cluster: Any, album: Path, long_clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    def run(out: Path, *how: str) -> None:
        about = ["--model", str(model_folder), "--device", "cpu", "--no-progress", *how]
        done = CliRunner().invoke(score, [str(album), str(long_clip), "--out", str(out), *about])
        assert done.exit_code == 0, done.output

    def kill_one() -> None:
        until(lambda: len(_readers()) == 2, 300)
        until(lambda: any((tmp_path / "ray.csv.journal").glob("part-*")), 300)
        _readers()[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    run(tmp_path / "ray.csv", "--ray", "auto", "--workers", "2")
    killer.join()
    run(tmp_path / "processes.csv", "--workers", "1")
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "processes.csv").read_bytes()


def test_no_cluster_at_an_address_is_one_sentence(album: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "t.csv")
    done = CliRunner().invoke(score, [str(album), "--out", out, "--ray", "127.0.0.1:9"])
    assert done.exit_code == 1 and "no Ray cluster at 127.0.0.1:9" in done.output


def test_pictures_are_drawn_here_alone(album: Path, tmp_path: Path) -> None:
    from scoring.run import ScoreOptions
    from scoring.run import score as run_score

    options = ScoreOptions(
        inputs=(str(album),), out=tmp_path / "t.csv", ray="auto", pictures=tmp_path
    )
    with pytest.raises(SourceError, match="not together with --ray"):
        run_score(options)
