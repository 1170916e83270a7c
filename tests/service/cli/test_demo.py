"""`affectgan demo` on tiny weights, as `make demo` runs it."""

import json
from pathlib import Path

import pytest

from affect.images import decode
from tests.support.programs import output, run
from tests.support.tiny import tiny_run

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo prints, and where it left pictures and answers."""
    folder = tmp_path_factory.mktemp("demo")
    weights = tiny_run(folder / "run") / "model"
    options = ("--weights", weights, "--port", 0, "--out", folder / "out", "--once")
    return output("demo", *options), folder / "out"


def test_it_shows_one_of_everything_and_ends(shown: tuple[str, Path]) -> None:
    printed, out = shown
    for line in ("serving on http://", "predict: 6 pictures", "generate: 25 faces", "explain: "):
        assert line in printed
    assert f"answers and pictures: {out}" in printed


def test_every_answer_is_written(shown: tuple[str, Path]) -> None:
    _, out = shown
    predicted = json.loads((out / "predict.json").read_text())
    assert list(predicted) == ["portrait", "anger", "disgust", "happiness", "sadness", "surprise"]
    assert {result["status"] for result in predicted.values()} == {"ok"}
    generated = json.loads((out / "generate.json").read_text())
    assert len(generated) == 25 and all("image" not in result for result in generated)


def test_the_drawn_faces_are_a_grid(shown: tuple[str, Path]) -> None:
    _, out = shown
    side = 5 * 128 + 4 * 4
    assert decode((out / "generate.png").read_bytes()).shape == (side, side, 3)


def test_weights_that_are_not_there_end_it_with_a_reason(tmp_path: Path) -> None:
    done = run("demo", "--weights", tmp_path / "none", "--port", 0, "--out", tmp_path, "--once")
    assert done.returncode != 0
    assert "the server stopped with status" in done.stderr and "none" in done.stderr
