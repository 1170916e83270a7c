"""Expressions follow from Action Units, and nothing is said where no class is likely."""

from pathlib import Path

import numpy as np
import pytest

from affect.labels import Vocabulary
from tests.support.made_database import card, picture
from training.database.annotations import EXPRESSION
from training.database.reader import Database
from training.database.sample import Sample
from training.database.writer import DatabaseWriter
from training.teacher.expression import ExpressionOfAus

PROTOTYPES = {"neutral": (0.0, 0.0), "happiness": (0.0, 0.9), "anger": (0.9, 0.0)}
OTHER = {"other": (0.5, 0.5)}


def _renders(folder: Path, *, named: bool) -> Database:
    rng, about = np.random.default_rng(0), card("AU4", "AU12")
    with DatabaseWriter(folder, about) as writer:
        for number, (name, middle) in enumerate([*(PROTOTYPES | OTHER).items()] * 40):
            shown = np.clip(middle + rng.normal(0, 0.05, 2), 0, 1).tolist()
            labels = Vocabulary(about.vocabulary).row(
                dict(zip(about.vocabulary, shown, strict=True))
            )
            truth = {EXPRESSION: name} if named else {}
            writer.add(
                Sample(
                    key=f"k{number}",
                    image=picture(number),
                    labels=labels,
                    source="made",
                    identity=f"p{number}",
                    truth=truth,
                )
            )
    return Database.open(folder)


@pytest.mark.parametrize("name", PROTOTYPES)
def test_a_prototype_is_named(tmp_path: Path, name: str) -> None:
    expression = ExpressionOfAus.fit(_renders(tmp_path, named=True))
    assert expression is not None
    assert expression.of(np.array(PROTOTYPES[name])) == name


def test_what_lies_between_is_left_unknown(tmp_path: Path) -> None:
    expression = ExpressionOfAus.fit(_renders(tmp_path, named=True))
    assert expression is not None and expression.of(np.array([0.45, 0.45])) is None


def test_renders_that_name_none_teach_none(tmp_path: Path) -> None:
    assert ExpressionOfAus.fit(_renders(tmp_path, named=False)) is None
