"""The drift figure, by hand, at rest, and when the faces change."""

import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from affect.card import ModelCard
from affect.protocol.messages import Predictions
from affect.rows import take_rows
from service.observability.drift import (
    BLOCK_FACES,
    FEWEST_FACES,
    TOGETHER_FACES,
    WINDOW_BLOCKS,
    DriftCollector,
    DriftMonitor,
    psi,
    reference_bins,
)
from tests.support.tiny import tiny_card

RNG = np.random.default_rng(5)


def card() -> ModelCard:
    """A card whose references are known: AUs flat in [0, 1], valence and arousal in [-1, 1]."""
    plain = tiny_card()
    quantiles = np.linspace(0, 1, 101)
    labels = {code: quantiles.tolist() for code in plain.vocabulary} | dict.fromkeys(
        ("valence", "arousal"), (2 * quantiles - 1).tolist()
    )
    return plain.model_copy(update={"reference": plain.reference | labels})


def faces(count: int, *, power: float = 1.0) -> Predictions:
    """Readings as in the reference; a power above 1 pushes the Action Units towards 0."""
    k = len(tiny_card().vocabulary)
    aus = RNG.random((count, k)).astype(np.float32) ** power
    va, realism = (
        RNG.uniform(-1, 1, (count, 2)).astype(np.float32),
        RNG.random(count).astype(np.float32),
    )
    none = np.zeros((len(aus), 0), np.float32)
    sides = np.zeros((len(aus), 2, 0), np.float32)
    present = (aus > 0.5).astype(np.uint8)
    return Predictions(aus, aus, present, va, realism, none, none, sides)


def test_the_index_is_the_one_worked_out_by_hand() -> None:
    expected, counts = np.array([[0.5, 0.25, 0.25]]), np.array([[10, 20, 70]])
    p = [10.5 / 101.5, 20.5 / 101.5, 70.5 / 101.5]
    by_hand = (
        (p[0] - 0.5) * math.log(p[0] / 0.5)
        + (p[1] - 0.25) * math.log(p[1] / 0.25)
        + (p[2] - 0.25) * math.log(p[2] / 0.25)
    )
    assert psi(expected, counts)[0] == pytest.approx(by_hand) and by_hand > 0.25


def test_bins_hold_a_tenth_each_and_ties_go_where_their_values_go() -> None:
    edges, shares = reference_bins(np.linspace(0, 1, 101))
    assert np.allclose(edges, np.arange(1, 10) / 10) and np.allclose(shares, 0.1)
    rare = np.concatenate([np.zeros(50), np.linspace(0, 1, 51)])  # half of the faces read exactly 0
    edges, shares = reference_bins(rare)
    drawn = np.concatenate([np.zeros(50_000), RNG.random(50_000)])
    counted = np.bincount((drawn[:, None] >= edges).sum(1), minlength=10) / len(drawn)
    assert np.abs(counted - shares).max() < 0.01


def test_faces_like_the_references_show_no_drift_and_others_do() -> None:
    monitor = DriftMonitor(card())
    for _ in range(20):
        monitor.add(faces(100))
    still = monitor.drift()
    assert (
        set(still) == {*monitor.card.vocabulary, "valence", "arousal", "realism"}
        and max(still.values()) < 0.05
    )
    for _ in range(20):
        monitor.add(faces(100, power=3.0))
    moved = monitor.drift()
    assert min(moved[code] for code in monitor.card.vocabulary) > 0.25 and moved["valence"] < 0.05


def test_the_window_forgets_and_stays_small() -> None:
    monitor = DriftMonitor(card())
    for _ in range(60):
        monitor.add(faces(50, power=3.0))
    for _ in range(WINDOW_BLOCKS * BLOCK_FACES // 50):
        monitor.add(faces(50))
    assert monitor.faces <= WINDOW_BLOCKS * BLOCK_FACES and max(monitor.drift().values()) < 0.05
    assert (
        monitor.counts[0].sum() == 60 * 50 + WINDOW_BLOCKS * BLOCK_FACES
    )  # the histogram never forgets


def test_faces_one_by_one_count_as_they_do_together() -> None:
    together, alone = DriftMonitor(card()), DriftMonitor(card())
    read = faces(2 * TOGETHER_FACES + 3)  # the last three wait for others, or for a scrape
    together.add(read)
    for row in range(len(read)):
        alone.add(take_rows(read, [row]))
    assert (alone.counts == together.counts).all() and alone.faces == len(read)
    assert np.allclose(alone.sums, together.sums)


def test_a_figure_of_few_faces_is_not_given() -> None:
    monitor = DriftMonitor(card())
    monitor.add(faces(FEWEST_FACES - 1))
    assert monitor.drift() == {}


def test_prometheus_sees_histogram_and_drift_until_the_version_is_let_go() -> None:
    collector, registry = DriftCollector(), CollectorRegistry()
    registry.register(collector)
    collector.monitor(card()).add(faces(600))
    value = registry.get_sample_value(
        "affectgan_reading_bucket",
        {"model": "affectgan", "version": "1.0", "label": "valence", "le": "0.0"},
    )
    assert value is not None and 240 < value < 360
    assert b"affectgan_drift_psi{" in generate_latest(registry)
    collector.forget(card())
    assert b"affectgan_drift_psi{" not in generate_latest(registry)
