"""Backgrounds: any of them, always the same for a seed, never out of range."""

import numpy as np

from training.renderer.background import background

SIDE = 64
PICTURES = [background(np.random.default_rng(seed), SIDE) for seed in range(60)]


def test_light_is_in_range_and_of_the_shape_asked_for() -> None:
    assert all(
        p.shape == (SIDE, SIDE, 3) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
        for p in PICTURES
    )


def test_a_seed_always_gives_the_same_background() -> None:
    assert np.array_equal(PICTURES[3], background(np.random.default_rng(3), SIDE))


def test_backgrounds_differ_in_light_and_busyness() -> None:
    light = [float(p.mean()) for p in PICTURES]
    busy = [float(p.std(axis=(0, 1)).mean()) for p in PICTURES]
    assert np.std(light) > 0.1
    assert min(busy) < 0.005 and max(busy) > 0.1


def test_out_of_doors_the_sky_is_above() -> None:
    pictures = [background(np.random.default_rng(seed), SIDE, outdoors=True) for seed in range(40)]
    assert all(p.min() >= 0 and p.max() <= 1 for p in pictures)
    above, below = (
        np.array([p[rows].mean((0, 1)) for p in pictures])
        for rows in (slice(0, 6), slice(-6, None))
    )
    assert (above.mean(1) > below.mean(1)).mean() > 0.9
    assert (
        (above[:, 2] - above[:, 0]).mean() > 0.05 > (below[:, 2] - below[:, 0]).mean()
    )  # blue there, not here
