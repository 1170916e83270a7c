"""A description counts right, and names what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.made_database import card, make, picture
from training.database.describe import description, write_html
from training.database.reader import Database
from training.database.sample import Sample
from training.database.survey import Survey, survey
from training.database.writer import DatabaseWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    va = {"valence": 0.1, "arousal": 0.2}
    aus = [{"AU1": float(n % 2), "AU12": float(n % 4 == 1)} for n in range(200)]
    rows = [(n, f"p{n // 2}", aus[n] | (va if n < 100 else {})) for n in range(200)]
    about = card("AU1", "AU4", "AU12")
    return make(
        tmp_path_factory.mktemp("described"),
        about,
        [*rows, (0, "p0", {"AU1": 1.0})],
        groups={"sex": "female"},
    )


@pytest.fixture(scope="module")
def surveyed(folder: Path) -> Survey:
    return survey(Database.open(folder))


def test_pictures_are_counted_by_what_is_known_of_them(surveyed: Survey) -> None:
    (source,) = surveyed.sources
    assert (surveyed.pictures, source.people, source.both, source.au_only, source.va_only) == (
        201,
        100,
        100,
        101,
        0,
    )
    assert (
        sum(part.pictures for part in surveyed.splits) == 201
        and surveyed.groups["sex"][0].pictures == 201
    )


def test_prevalence_and_co_occurrence(surveyed: Survey) -> None:
    labels = {label.name: label for label in surveyed.labels}
    assert (labels["AU1"].known, labels["AU1"].present) == (201, 101) and labels["AU4"].known == 0
    assert (
        surveyed.together[2, 0] == 1
        and surveyed.together[0, 2] == pytest.approx(0.5)
        and np.isnan(surveyed.together[0, 1])
    )


def test_problems_are_named(surveyed: Survey) -> None:
    problems = "\n".join(surveyed.problems)
    assert (
        "AU4 is never annotated" in problems
        and "1 pictures are copies" in problems
        and "AU12 is present in 50" not in problems
    )


def test_a_torn_person_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path, card("AU1"), [(0, "p0", {"AU1": 1.0})], assigned="train")
    with DatabaseWriter(tmp_path, card("AU1"), first_shard=1) as writer:
        row = np.array([0, np.nan, np.nan], np.float32)
        writer.add(
            Sample(
                key="x", image=picture(1), labels=row, source="made", identity="p0", assigned="test"
            )
        )
    assert any(
        "1 people stand in more than one split" in text
        for text in survey(Database.open(tmp_path)).problems
    )


def test_the_words_hold_every_label(surveyed: Survey) -> None:
    words = description(surveyed)
    assert all(name in words for name in ("AU1", "AU12", "valence", "arousal", "problems found"))


def test_the_page_needs_no_other_file(folder: Path, surveyed: Survey, tmp_path: Path) -> None:
    page = write_html(Database.open(folder), surveyed, tmp_path / "describe.html").read_text()
    assert page.count("<svg") == 4 and "data:image/webp;base64" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
