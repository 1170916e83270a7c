"""What the model sees, against what it saw in training: distributions of its readings, and how far they moved.

Counts only: no reading of a face is kept. The reference is the card's (quantiles of each label on
real faces); realism is by its definition the share of real faces that look no more real, so that
its reference is flat. Shape letters: N faces, L labels (the card's Action Units, valence, arousal,
probabilities of its expressions, pose, realism), B bins.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from affect.card import ModelCard
from affect.labels import AROUSAL, POSE, VALENCE
from affect.protocol.messages import Predictions

REALISM = "realism"
LOWEST = {VALENCE: -1.0, AROUSAL: -1.0} | dict.fromkeys(POSE, -90.0)  # others: 0
HIGHEST = dict.fromkeys(POSE, 90.0)  # others: 1
BINS = 10
BLOCK_FACES = 100  # the window moves by blocks of this many
WINDOW_BLOCKS = 20
FEWEST_FACES = 500  # with fewer, chance alone makes a PSI above 0.02


def psi(expected: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Population stability index (L,) of counts (L, B) against expected shares (L, B): sum of (p - q) ln(p / q).

    A half is added to every count, so that an empty bin is not infinitely far. 0.1 is usually called a small shift, 0.25 a large one.
    """
    smoothed = counts + 0.5
    shares = smoothed / smoothed.sum(1, keepdims=True)
    return np.asarray(((shares - expected) * np.log(shares / expected)).sum(1))


def reference_bins(quantiles: Iterable[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inner edges (B-1,) at the deciles of a reference, and the share of it (B,) in each bin. A value on an edge is above it.

    Deciles may coincide (an Action Unit that hardly ever shows): such bins have no width, get nothing, and hold a share of next to 0.
    """
    points = np.asarray(list(quantiles), np.float64)
    edges = np.quantile(points, np.linspace(0, 1, BINS + 1)[1:-1])
    below = np.array(
        [np.interp(edge, *_last(points)) if edge > points[0] else 0.0 for edge in edges]
    )
    return edges, np.maximum(np.diff(np.concatenate([[0.0], below, [1.0]])), 1e-6)


def _last(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The distribution function just below each distinct quantile: (value, share of the reference that is smaller)."""
    values, first = np.unique(points, return_index=True)
    return values, first / max(len(points) - 1, 1)


class DriftMonitor:
    """The readings of one version: all of them as a histogram, the last BLOCK_FACES * WINDOW_BLOCKS against the reference."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        aus = card.vocabulary if card.learns_aus else ()
        va = (VALENCE, AROUSAL) if card.learns_va else ()
        pose = POSE if card.pose else ()
        self.labels = (*aus, *va, *card.expressions, *pose, REALISM)
        self._aus, self._va = len(aus), len(va)
        self._low = np.array([LOWEST.get(label, 0.0) for label in self.labels])
        self._high = np.array([HIGHEST.get(label, 1.0) for label in self.labels])
        self._scale = BINS / (self._high - self._low)
        self._rows = np.arange(len(self.labels))
        self.counts = np.zeros((len(self.labels), BINS), np.int64)
        self.sums = np.zeros(len(self.labels))
        reference = {**card.reference, REALISM: [0.0, 1.0]}
        self._compared = [
            place for place, label in enumerate(self.labels) if len(reference.get(label, ())) > 1
        ]
        found = [reference_bins(reference[self.labels[place]]) for place in self._compared]
        self._edges, self._expected = (
            np.array([edges for edges, _ in found]),
            np.array([shares for _, shares in found]),
        )
        self._blocks: deque[NDArray[np.int64]] = deque([self._block()], maxlen=WINDOW_BLOCKS)
        self._block_faces = 0  # in the last block

    def add(self, read: Predictions) -> None:
        """Count the readings of some faces."""
        labels = (read.intensity[:, : self._aus], read.va[:, : self._va])
        others = (read.expression, read.pose, read.realism[:, None])
        values = np.concatenate([*labels, *others], 1)  # (N, L)
        self.sums += values.sum(0)
        places = ((values - self._low) * self._scale).astype(np.int64)
        places = np.minimum(
            np.maximum(places, 0), BINS - 1
        )  # np.clip takes three times as long for one face
        np.add.at(self.counts, (self._rows, places), 1)
        if self._block_faces >= BLOCK_FACES:
            self._blocks.append(self._block())
            self._block_faces = 0
        self._block_faces += len(values)
        above = (values[:, self._compared, None] >= self._edges).sum(2)  # (N, L) the bin of each
        np.add.at(self._blocks[-1], (np.arange(len(self._compared)), above), 1)

    @property
    def faces(self) -> int:
        """Faces in the window."""
        return int(sum(block[0].sum() for block in self._blocks))

    def drift(self) -> dict[str, float]:
        """PSI of every label that the card has a reference for; none while the window holds too few faces."""
        if self.faces < FEWEST_FACES:
            return {}
        found = psi(self._expected, np.sum(self._blocks, axis=0))
        return {
            self.labels[place]: float(value)
            for place, value in zip(self._compared, found, strict=True)
        }

    def bounds(self, row: int) -> list[str]:
        """Upper bounds of a label's histogram."""
        bounds = np.linspace(self._low[row], self._high[row], BINS + 1)[1:-1]
        return [*(f"{bound:.1f}" for bound in bounds), "+Inf"]

    def _block(self) -> NDArray[np.int64]:
        return np.zeros((len(self._compared), BINS), np.int64)


class DriftCollector(Collector):
    """What every served version sees, worked out when Prometheus asks."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], DriftMonitor] = {}

    def monitor(self, card: ModelCard) -> DriftMonitor:
        """The counts of a version."""
        return self._seen.setdefault((card.name, card.version), DriftMonitor(card))

    def forget(self, card: ModelCard) -> None:
        """It is served no more."""
        self._seen.pop((card.name, card.version), None)

    def collect(self) -> list[Metric]:
        """Prometheus' metrics."""
        names = ("model", "version")
        read = HistogramMetricFamily(
            "affectgan_reading",
            "What was read off faces: intensity of an AU, valence, arousal, probability of an "
            "expression, degrees of pose, realism",
            labels=(*names, "label"),
        )
        drift = GaugeMetricFamily(
            "affectgan_drift_psi",
            "Population stability index of the last readings against the card's reference",
            labels=(*names, "label"),
        )
        faces = GaugeMetricFamily(
            "affectgan_drift_faces", "Faces that the drift is worked out of", labels=names
        )
        for key, seen in list(self._seen.items()):
            faces.add_metric(key, seen.faces)
            for row, label in enumerate(seen.labels):
                cumulative = np.cumsum(seen.counts[row])
                read.add_metric(
                    (*key, label),
                    [
                        (bound, float(n))
                        for bound, n in zip(seen.bounds(row), cumulative, strict=True)
                    ],
                    seen.sums[row],
                )
            for label, value in seen.drift().items():
                drift.add_metric((*key, label), value)
        return [read, drift, faces]
