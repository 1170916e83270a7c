"""A reader over a tiny model, and pictures for it."""

from pathlib import Path

import pytest
from skimage import data

from affect import Reader
from affect.inputs import U8
from tests.support.tiny import tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save(folder)
    return folder


@pytest.fixture(scope="session")
def reader(model_folder: Path) -> Reader:
    return Reader(model_folder, device="cpu", threads=2)


@pytest.fixture(scope="session")
def portrait() -> U8:
    """Eileen Collins, NASA, public domain."""
    picture: U8 = data.astronaut()
    return picture
