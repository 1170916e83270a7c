"""Distances against scipy, torchmetrics and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestNeighbors
from torchmetrics.image.kid import poly_mmd

from training.evaluation.judge import distances

RNG = np.random.default_rng(8)
REAL = RNG.normal(size=(200, 6))
DRAWN = RNG.normal(0.4, 1.3, size=(180, 6))


def test_frechet_distance_equals_the_formula_with_scipys_matrix_root() -> None:
    a, b = np.cov(REAL, rowvar=False), np.cov(DRAWN, rowvar=False)
    expected = ((REAL.mean(0) - DRAWN.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert distances.frechet(REAL, DRAWN) == pytest.approx(expected, rel=1e-6)
    assert distances.frechet(REAL, REAL) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_equals_torchmetrics() -> None:
    expected = float(poly_mmd(torch.tensor(REAL[:180]), torch.tensor(DRAWN)))
    assert distances.kernel(REAL[:180], DRAWN) == pytest.approx(expected, rel=1e-5)


def test_precision_recall_and_coverage_equal_scikit_learns_neighbours() -> None:
    k = distances.NEIGHBOURS
    real_radius = NearestNeighbors(n_neighbors=k + 1).fit(REAL).kneighbors(REAL)[0][:, -1]
    drawn_radius = NearestNeighbors(n_neighbors=k + 1).fit(DRAWN).kneighbors(DRAWN)[0][:, -1]
    apart = np.linalg.norm(REAL[:, None] - DRAWN[None], axis=2)
    manifold = distances.manifold(REAL, DRAWN, RNG)
    assert manifold.precision.value == pytest.approx(
        np.mean([(apart[:, j] < real_radius).any() for j in range(180)])
    )
    assert manifold.recall.value == pytest.approx(
        np.mean([(apart[i] < drawn_radius).any() for i in range(200)])
    )
    assert manifold.coverage.value == pytest.approx(
        np.mean([(apart[i] < real_radius[i]).any() for i in range(200)])
    )
    assert manifold.density.value == pytest.approx(
        np.mean([(apart[:, j] < real_radius).sum() for j in range(180)]) / k
    )


def test_the_same_set_is_dense_and_a_far_one_is_not() -> None:
    assert distances.manifold(REAL, REAL + 1e-9, RNG).coverage.value == 1
    far = distances.manifold(REAL, REAL + 100, RNG)
    assert {share.value for share in vars(far).values()} == {0}


def test_intervals_hold_the_figure_and_narrow_with_more_faces() -> None:
    rng = np.random.default_rng(0)
    few = distances.kernel_interval(REAL[:60], DRAWN[:60], rng)
    many = distances.kernel_interval(
        RNG.normal(size=(2000, 6)), RNG.normal(0.4, 1.3, size=(2000, 6)), rng
    )
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    frechet = distances.frechet_interval(REAL, DRAWN, rng)
    assert frechet.low < frechet.value < frechet.high
    people = np.arange(len(REAL)) // 20
    whole = distances.frechet_interval(REAL + people[:, None], DRAWN, rng, people=(people, None))
    alone = distances.frechet_interval(REAL + people[:, None], DRAWN, rng)
    # faces of one person say little more than one of them
    assert whole.high - whole.low > 1.5 * (alone.high - alone.low)


def test_the_nearest_neighbour_is_found() -> None:
    distance, index = distances.nearest(REAL[:20] + 1e-3, REAL)
    assert (index == np.arange(20)).all()
    np.testing.assert_allclose(distance, np.sqrt(6) * 1e-3, rtol=1e-3)
