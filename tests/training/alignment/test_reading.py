"""What estimated alignment costs, on a few heads."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from affect.faces import Face, FaceFinder
from affect.factory import initialise_model
from affect.model import AffectModel, smoke_card
from training.alignment.commands import misalignment
from training.alignment.reading import cost_of_alignment


class Astray(FaceFinder):
    """Finds every face, a head's width beside it."""

    def find(self, image: np.ndarray, **_: object) -> list[Face]:
        side = image.shape[0]
        points = (
            np.array(
                [[0.02, 0.9], [0.06, 0.9], [0.04, 0.93], [0.03, 0.95], [0.05, 0.95]], np.float32
            )
            * side
        )
        return [Face((0.0, 0.0, 1.0, 1.0), points, 1.0)]


@pytest.fixture(scope="module")
def model() -> AffectModel:
    return initialise_model(smoke_card(), seed=3).eval()


def test_found_eyes_are_compared_with_true_ones(model: AffectModel) -> None:
    cost = cost_of_alignment(model, FaceFinder(), heads=16, picture_px=160, seed=1)
    assert cost.heads + cost.missed == 16 and 0 < cost.true < 1 and 0 < cost.detected < 1
    drop, low, high = cost.drop
    assert drop == pytest.approx(cost.true - cost.detected) and low <= drop <= high


def test_a_finder_that_is_astray_gives_other_readings(model: AffectModel) -> None:
    near, far = (
        cost_of_alignment(model, finder, heads=16, picture_px=160, seed=1)
        for finder in (FaceFinder(), Astray())
    )
    assert (
        far.missed == 0 and far.detected != near.detected and (near.missed or far.true == near.true)
    )


def test_the_command_prints_the_cost(model: AffectModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    result = CliRunner().invoke(
        misalignment, [str(tmp_path), "--heads", "16", "--size", "160"], catch_exceptions=False
    )
    assert "by true eyes" in result.output and "16 heads" in result.output
