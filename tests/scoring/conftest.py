"""A tiny model, and what is scored with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from skimage import data

from scoring.commands import score
from tests.support.pictures import encoded
from tests.support.tiny import tiny_model
from tests.support.videos import frame, write_video

FRAMES = 40
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that moves, in FRAMES frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, [frame(step) for step in range(FRAMES)])


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be stopped in."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    return write_video(path, [frame(step) for step in range(3 * FRAMES)])


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty portraits in two folders, and three files that are none."""
    folder = tmp_path_factory.mktemp("album")
    content = encoded(data.astronaut()[:256, 96:352])
    for number in range(20):
        path = folder / ("anna", "ben")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "raw.heic").write_bytes(b"\0\0\0\x18ftypheic")
    return folder


@pytest.fixture(scope="session")
def run(model_folder: Path) -> Run:
    """`affectgan score` in this process; `model` and `workers` may be other ones."""

    def run(*arguments: object, workers: int = 1, model: Path = model_folder) -> Result:
        named = [str(argument) for argument in arguments]
        about = ["--model", str(model), "--workers", str(workers), "--device", "cpu"]
        return CliRunner().invoke(score, [*named, *about, "--no-progress"])

    return run
