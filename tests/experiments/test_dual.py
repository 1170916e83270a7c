"""The experiment on the paper's question: whose labels go, which comparisons answer what, a whole
tiny experiment, and what it refuses.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click import ClickException
from click.testing import CliRunner

from experiments.dual import Condition, comparisons, main, question, thin, thinned
from tests.training.gan.conftest import faces_of_made_people  # noqa: F401  (a fixture)
from training.database.copying import copy_database
from training.database.reader import Database

LABELS = np.array([0.1, 0.2, 0.3, 0.4], np.float32)  # two Action Units, valence, arousal


def _known(share: float) -> dict[str, tuple[bool, bool]]:
    """Whether Action Units, and valence and arousal, are left of each of 3,000 people."""
    labelled = {
        str(person): ~np.isnan(thinned(LABELS, str(person), share)) for person in range(3_000)
    }
    return {person: (bool(known[0]), bool(known[3])) for person, known in labelled.items()}


def test_a_third_of_the_people_keep_aus_a_third_valence_and_arousal_a_third_both() -> None:
    fates = list(_known(1.0).values())
    assert [
        fates.count(fate) / 3_000 for fate in ((True, False), (False, True), (True, True))
    ] == pytest.approx([1 / 3] * 3, abs=0.03)


def test_of_a_quarter_each_keeps_what_it_kept_of_all_and_the_others_keep_nothing() -> None:
    whole, quarter = _known(1.0), _known(0.25)
    left = [person for person, fate in quarter.items() if fate != (False, False)]
    assert len(left) / 3_000 == pytest.approx(0.25, abs=0.03) and all(
        quarter[person] == whole[person] for person in left
    )


def test_a_question_is_about_one_thing_and_asked_once() -> None:
    gan, plain, paper = (
        Condition(model, "both") for model in ("affectgan", "multitask", "ssgan2019")
    )
    aus, quarter = Condition("affectgan", "au"), Condition("affectgan", "both", 0.25)
    assert [question(gan, other) for other in (plain, paper, aus, quarter, gan)] == [
        "model",
        "model",
        "both or one",
        "share",
        None,
    ]
    assert [question(other, gan) for other in (plain, paper, aus, quarter)] == [None] * 4
    assert question(plain, aus) is None and question(plain, quarter) is None


def test_comparisons_pair_by_seed_and_are_corrected_within_their_question() -> None:
    runs = {seed: {"AU AUC": 0.6 + 0.01 * seed**2, "valence CCC": 0.1 * seed} for seed in range(3)}
    worse = {
        seed: {"AU AUC": figures["AU AUC"] - 0.02 - 0.001 * seed} for seed, figures in runs.items()
    }
    measured = {
        Condition("affectgan", "both"): runs,
        Condition("affectgan", "au"): worse,
        Condition("multitask", "both"): worse,
    }
    by_question = {(c.question, c.figure): c for c in comparisons(measured)}
    assert set(by_question) == {
        ("both or one", "AU AUC"),
        ("model", "AU AUC"),
    }  # nobody else has valence
    assert all(
        c.difference.mean == pytest.approx(0.021) and c.p_holm == pytest.approx(c.difference.p)
        for c in by_question.values()
    )


def test_a_whole_experiment_can_be_gone_on_with_but_not_with_other_settings(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    said = [
        "--data",
        str(faces_of_made_people),
        "--out",
        str(tmp_path),
        "--seeds",
        "2",
        "--shares",
        "1",
        "--models",
        "multitask",
    ]
    first = CliRunner().invoke(
        main, [*said, "--images", "64", "--labels", "both"], catch_exceptions=False
    )
    assert first.exit_code == 0 and "| multitask-both-1 | 2 | " in first.output
    (tmp_path / "runs" / "multitask-both-1-s1" / "dual.json").unlink()
    again = CliRunner().invoke(
        main,
        [*said, "--images", "64", "--labels", "both", "--labels", "au"],
        catch_exceptions=False,
    )
    record = json.loads((tmp_path / "table.json").read_text())
    assert again.exit_code == 0 and [
        len(record["runs"][f"multitask-{labels}-1"]) for labels in ("both", "au")
    ] == [2, 2]
    assert {c["question"] for c in record["comparisons"]} == {"both or one"}
    (tmp_path / "runs" / "multitask-au-1-s0" / "dual.json").unlink()  # as if it had been stopped
    longer = CliRunner().invoke(main, [*said, "--images", "128", "--labels", "au"])
    assert longer.exit_code == 1 and "was begun with other settings" in longer.output


def test_the_copy_keeps_the_test_split_and_is_not_taken_for_that_of_other_pictures(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    database = Database.open(faces_of_made_people)
    thin(database, tmp_path / "thin", 0.25)
    copy = Database.open(tmp_path / "thin")
    assert np.array_equal(copy.labels("test"), database.labels("test"), equal_nan=True)
    assert (
        np.isfinite(copy.labels("train")).sum() < 0.3 * np.isfinite(database.labels("train")).sum()
    )
    copy_database(
        database,
        tmp_path / "other",
        "other",
        lambda sample: replace(sample, image=sample.image + b" "),
    )
    with pytest.raises(ClickException, match="made from another database"):
        thin(Database.open(tmp_path / "other"), tmp_path / "thin", 0.25)
