"""How far two sets of pictures lie apart, in the features of a judge.

Pure functions on (N, F) arrays.

With the judge's features these are called FD-judge and KD-judge: they must not be compared with FID
or KID, and are meaningful only next to the distance between two sets of real faces (the floor) at
the same N.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from training.evaluation.core.metrics import Interval, mean_interval, resamplings

Floats = NDArray[np.float64]
Names = NDArray[np.generic]  # the person of each row
NEIGHBOURS = 5  # k of precision, recall, density and coverage, as their authors use it
KERNEL_SUBSETS, KERNEL_SUBSET_ROWS = 50, 200


@dataclass(frozen=True)
class Manifold:
    """Four shares in [0, 1] (density may exceed 1).

    Intervals resample the faces that are counted, not those they are compared with.
    """

    precision: Interval  # drawn faces that lie among real ones
    recall: Interval  # real faces that lie among drawn ones
    density: Interval  # how many real neighbourhoods a drawn face lies in, over k
    coverage: Interval  # real faces with a drawn one in their neighbourhood


def frechet(real: Floats, drawn: Floats) -> float:
    """Squared Frechet distance of the two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))
    (Heusel et al. 2017, eq. 6).
    """
    first, second = np.cov(real, rowvar=False), np.cov(drawn, rowvar=False)
    root = _root(first)
    eigenvalues = np.linalg.eigvalsh(root @ second @ root).clip(0)
    gap = real.mean(0) - drawn.mean(0)
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.sqrt(eigenvalues).sum())


def frechet_interval(
    real: Floats,
    drawn: Floats,
    rng: Generator,
    *,
    count: int = 20,
    people: tuple[Names | None, Names | None] = (None, None),
) -> Interval:
    """Frechet distance with 1.96 standard errors either way, from resampling both sets, whole
    people where they are named (of real faces, of drawn ones).

    Resampling repeats rows and so lifts the distance itself; only its spread is used.
    """
    value = frechet(real, drawn)
    repeated = zip(
        _resampled(real, people[0], rng, count),
        _resampled(drawn, people[1], rng, count),
        strict=True,
    )
    spread = np.std([frechet(one, other) for one, other in repeated], ddof=1)
    return Interval(value, max(value - 1.96 * float(spread), 0.0), value + 1.96 * float(spread))


def kernel(real: Floats, drawn: Floats) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x y / F + 1)^3 (Binkowski et al.
    2018). May be negative.
    """
    rows, others, features = len(real), len(drawn), real.shape[1]
    within_real = (real @ real.T / features + 1) ** 3
    within_drawn = (drawn @ drawn.T / features + 1) ** 3
    cross_kernel = (real @ drawn.T / features + 1) ** 3
    real_mean = (within_real.sum() - np.trace(within_real)) / (rows * (rows - 1))
    drawn_mean = (within_drawn.sum() - np.trace(within_drawn)) / (others * (others - 1))
    return float(real_mean + drawn_mean - 2 * cross_kernel.mean())


def kernel_interval(real: Floats, drawn: Floats, rng: Generator) -> Interval:
    """Mean kernel distance over random subsets, with 1.96 standard errors either way."""
    rows = min(len(real), len(drawn))
    size = min(KERNEL_SUBSET_ROWS, rows // 2)
    values = [
        kernel(
            real[rng.choice(len(real), size, replace=False)],
            drawn[rng.choice(len(drawn), size, replace=False)],
        )
        for _ in range(KERNEL_SUBSETS)
    ]
    # The error is that of the whole set, from the spread of subsets drawn from it without
    # replacement (finite population).
    error = 1.96 * float(np.std(values, ddof=1)) * (size / (rows - size)) ** 0.5
    mean = float(np.mean(values))
    return Interval(mean, mean - error, mean + error)


def manifold(
    real: Floats,
    drawn: Floats,
    rng: Generator,
    real_people: Names | None = None,
    drawn_people: Names | None = None,
) -> Manifold:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""
    neighbours = NEIGHBOURS
    real_radius, drawn_radius = _radius(real, neighbours), _radius(drawn, neighbours)
    distances = cdist(real, drawn)
    inside_real = distances < real_radius[:, None]
    of_real, of_drawn = (
        resamplings(_people(real, real_people), rng),
        resamplings(_people(drawn, drawn_people), rng),
    )
    return Manifold(
        precision=mean_interval(inside_real.any(0).astype(np.float64), of_drawn),
        recall=mean_interval((distances < drawn_radius[None]).any(1).astype(np.float64), of_real),
        density=mean_interval(inside_real.sum(0) / neighbours, of_drawn),
        coverage=mean_interval((distances.min(1) < real_radius).astype(np.float64), of_real),
    )


def nearest(rows: Floats, candidates: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Euclidean distance and index of each row's nearest neighbour."""
    squared = (rows**2).sum(1)[:, None] + (candidates**2).sum(1)[None] - 2 * rows @ candidates.T
    index = squared.argmin(1)
    return np.sqrt(squared[np.arange(len(rows)), index].clip(0)), index


def _radius(rows: Floats, neighbours: int) -> Floats:
    """Distance of each row to its k-th nearest other row."""
    return np.asarray(np.partition(cdist(rows, rows), neighbours, axis=1)[:, neighbours])


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(0))) @ vectors.T)


def _people(rows: Floats, names: Names | None) -> Names:
    return np.arange(len(rows)) if names is None else names


def _resampled(rows: Floats, people: Names | None, rng: Generator, count: int) -> Iterator[Floats]:
    for weights in resamplings(_people(rows, people), rng, count)[1:]:
        yield np.repeat(rows, weights.astype(np.intp), axis=0)
