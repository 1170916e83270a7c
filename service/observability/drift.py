"""Drift of the model's readings from their distributions in training. Counts only: readings stay in
memory until a few are counted together, at most until the next scrape. The reference is the card's
(quantiles of each label on real faces); realism is by its definition the share of real faces that
look no more real, so that its reference is flat.

Shape letters: N faces, L labels (the card's Action Units, valence, arousal, probabilities of its
expressions, pose, realism), C of them with a reference, B bins.
"""

import threading
from collections import deque
from collections.abc import Iterable, Sequence

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
TOGETHER_FACES = 25  # counted at a time: one by one they cost a tenth of a request's own time
BLOCK_FACES = 100  # the window moves by blocks of this many
WINDOW_BLOCKS = 20
FEWEST_FACES = 500  # with fewer, chance alone makes a PSI above 0.02
LEAST_SHARE = 1e-6  # of a bin without width
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def psi(expected: F64, counts: I64) -> F64:
    """Population stability index (L,) of counts (L, B) against expected shares (L, B).

    Sum over bins of (p - q) ln(p / q). A half is added to every count, so that an empty bin is not
    infinitely far. 0.1 is usually called a small shift, 0.25 a large one.
    """
    smoothed = counts + 0.5
    shares = smoothed / smoothed.sum(1, keepdims=True)
    return np.asarray(((shares - expected) * np.log(shares / expected)).sum(1))


def reference_bins(quantiles: Iterable[float]) -> tuple[F64, F64]:
    """Inner edges (B-1,) at the deciles of a reference, and its share (B,) in each bin.

    A value on an edge is above it. Deciles may coincide (an Action Unit that hardly ever shows):
    such bins have no width, get no face, and hold a share of next to 0.
    """
    points = np.asarray(list(quantiles), np.float64)
    edges = np.quantile(points, np.linspace(0, 1, BINS + 1)[1:-1])
    values, smaller = _distribution(points)
    below = np.where(edges > points[0], np.interp(edges, values, smaller), 0.0)
    return edges, np.maximum(np.diff(np.concatenate([[0.0], below, [1.0]])), LEAST_SHARE)


def _distribution(points: F64) -> tuple[F64, F64]:
    """Each distinct quantile, and the share of the reference that is smaller."""
    values, first = np.unique(points, return_index=True)
    return values, first / max(len(points) - 1, 1)


class ReferenceWindow:
    """The last faces against the reference: BLOCK_FACES * WINDOW_BLOCKS of them."""

    def __init__(self, references: Sequence[Sequence[float]]) -> None:
        """`references` are quantiles, for each of C labels."""
        bins = [reference_bins(quantiles) for quantiles in references]
        self._edges = np.array([edges for edges, _ in bins])
        self._expected = np.array([shares for _, shares in bins])
        self._rows = np.arange(len(bins))
        self._blocks: deque[I64] = deque([self._empty_block()], maxlen=WINDOW_BLOCKS)
        self._block_faces = 0  # in the last block

    @property
    def faces(self) -> int:
        """Faces in the window."""
        return int(sum(block[0].sum() for block in self._blocks))

    def add(self, values: F64) -> None:
        """Count values (N, C)."""
        if self._block_faces >= BLOCK_FACES:
            self._blocks.append(self._empty_block())
            self._block_faces = 0
        self._block_faces += len(values)
        bins = (values[:, :, None] >= self._edges).sum(2)  # (N, C)
        np.add.at(self._blocks[-1], (self._rows, bins), 1)

    def drift(self) -> F64 | None:
        """PSI (C,); None while the window holds too few faces."""
        if self.faces < FEWEST_FACES:
            return None
        return psi(self._expected, np.sum(self._blocks, axis=0))

    def _empty_block(self) -> I64:
        return np.zeros((len(self._rows), BINS), np.int64)


class DriftMonitor:
    """The readings of one version: all as a histogram, the last against the reference."""

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
        self._counts = np.zeros((len(self.labels), BINS), np.int64)
        self._sums = np.zeros(len(self.labels))
        self._uncounted: list[Predictions] = []
        self._uncounted_faces = 0
        self._lock = threading.Lock()  # a scrape may come from a thread of its own
        references = {**card.reference, REALISM: [0.0, 1.0]}
        self._compared = [
            row for row, label in enumerate(self.labels) if len(references.get(label, ())) > 1
        ]
        self._window = ReferenceWindow([references[self.labels[row]] for row in self._compared])

    def add(self, read: Predictions) -> None:
        """Count the readings of some faces, now or together with the next ones."""
        with self._lock:
            self._uncounted.append(read)
            self._uncounted_faces += len(read)
            if self._uncounted_faces >= TOGETHER_FACES:
                self._count()

    def _count(self) -> None:
        """Count what is not counted yet; the caller holds the lock."""
        if not self._uncounted:
            return
        values = np.concatenate([self._values(read) for read in self._uncounted])  # (N, L)
        self._uncounted, self._uncounted_faces = [], 0
        self._sums += values.sum(0)
        bins = ((values - self._low) * self._scale).astype(np.int64)
        np.add.at(self._counts, (self._rows, np.clip(bins, 0, BINS - 1)), 1)
        self._window.add(values[:, self._compared])

    def _values(self, read: Predictions) -> F64:
        """The labels' values (N, L)."""
        labels = (read.intensity[:, : self._aus], read.va[:, : self._va])
        other_outputs = (read.expression, read.pose, read.realism[:, None])
        return np.concatenate([*labels, *other_outputs], 1)

    @property
    def counts(self) -> I64:
        """The histogram (L, B) of every label."""
        with self._lock:
            self._count()
            return self._counts.copy()

    @property
    def sums(self) -> F64:
        """The sum (L,) of every label."""
        with self._lock:
            self._count()
            return self._sums.copy()

    @property
    def faces(self) -> int:
        """Faces in the window."""
        with self._lock:
            self._count()
            return self._window.faces

    def drift(self) -> dict[str, float]:
        """PSI of every label with a reference; none while the window holds too few faces."""
        with self._lock:
            self._count()
            values = self._window.drift()
        if values is None:
            return {}
        labels = (self.labels[row] for row in self._compared)
        return dict(zip(labels, values.tolist(), strict=True))

    def bounds(self, row: int) -> list[str]:
        """Upper bounds of a label's histogram."""
        bounds = np.linspace(self._low[row], self._high[row], BINS + 1)[1:-1]
        return [*(f"{bound:.1f}" for bound in bounds), "+Inf"]

    def buckets(self, row: int) -> list[tuple[str, float]]:
        """A label's histogram, cumulative, as Prometheus takes it."""
        cumulative = np.cumsum(self.counts[row]).astype(float).tolist()
        return list(zip(self.bounds(row), cumulative, strict=True))


class DriftCollector(Collector):
    """The readings of every served version, computed at each scrape."""

    def __init__(self) -> None:
        self._monitors: dict[tuple[str, str], DriftMonitor] = {}

    def monitor(self, card: ModelCard) -> DriftMonitor:
        """The counts of a version."""
        return self._monitors.setdefault((card.name, card.version), DriftMonitor(card))

    def forget(self, card: ModelCard) -> None:
        """Drop the counts of a version that was removed."""
        self._monitors.pop((card.name, card.version), None)

    def collect(self) -> list[Metric]:
        """Prometheus' metrics."""
        names = ("model", "version")
        readings = HistogramMetricFamily(
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
        for key, monitor in list(self._monitors.items()):
            faces.add_metric(key, monitor.faces)
            for row, label in enumerate(monitor.labels):
                readings.add_metric((*key, label), monitor.buckets(row), monitor.sums[row])
            for label, value in monitor.drift().items():
                drift.add_metric((*key, label), value)
        return [readings, drift, faces]
