"""A row of predictions by name: what the card names is there, what it does not is absent."""

import numpy as np
import pytest

from affect.answers import Reading
from affect.batches import predict
from affect.protocol.messages import Predictions
from affect.protocol.reading_fields import reading_fields
from tests.support.tiny import tiny_card, tiny_model

CARD = tiny_card(reader=True)


@pytest.fixture(scope="module")
def read() -> Predictions:
    crops = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return predict(tiny_model(CARD), crops, (4,))


def test_the_likeliest_expression_is_named_beside_all_probabilities(read: Predictions) -> None:
    expression = reading_fields(CARD, read, 1)["expression"]
    probabilities = expression["probabilities"]
    assert tuple(probabilities) == CARD.expressions
    assert expression["label"] == max(probabilities, key=lambda name: probabilities[name])
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_only_units_that_can_be_one_sided_have_sides(read: Predictions) -> None:
    units = reading_fields(CARD, read, 0)["aus"]
    sided = [code for code, unit in units.items() if "left" in unit and "right" in unit]
    assert tuple(sided) == CARD.one_sided and "left" not in units["AU25"]
    column = CARD.one_sided.index("AU12")
    assert units["AU12"]["right"] == pytest.approx(float(read.sides[0, 1, column]), abs=1e-4)


def test_a_reading_is_what_the_interface_says(read: Predictions) -> None:
    fields = reading_fields(CARD, read, 2)
    reading = Reading.model_validate(fields)
    assert reading.model_dump(exclude_unset=True) == fields
    assert reading.pose is not None and reading.pose.yaw == round(float(read.pose[2, 0]), 2)


def test_what_a_model_does_not_know_is_absent() -> None:
    card = tiny_card("va")
    read = predict(tiny_model(card), np.zeros((1, 32, 32, 3), np.uint8), (1,))
    assert set(reading_fields(card, read, 0)) == {"realism", "valence", "arousal", "warnings"}
