"""What is said about a counterfactual."""

import pytest

from affect.counterfactual import JudgeAgreement, verbalization

FINE = {
    "validity_margin": 1.0,
    "identity": 0.99,
    "realism": 0.5,
    "stability": 1.0,
    "support": 0.5,
    "reconstruction_percentile": 0.5,
    "outside": 0.05,
    "sparsity": 1.0,
}


AGREES, DISAGREES = JudgeAgreement(0.7, 0.2, True), JudgeAgreement(0.7, 0.68, False)


def test_valence_is_told_with_the_units_that_moved_it() -> None:
    units = [("AU12", 0.62, 0.22), ("AU15", 0.0, 0.2), ("AU4", 0.1, 0.11)]
    told = verbalization.sentence(
        "valence", ("valence", 0.42, -0.10), units, {"AU12": -0.6, "AU15": 0.5, "AU4": 0.3}, True
    )
    assert told == (
        "Valence would fall from 0.42 to -0.10 if AU12 (lip corner puller) were reduced by 0.40 "
        "and AU15 (lip corner depressor) were raised by 0.20."
    )


def test_a_unit_that_moved_against_the_search_is_not_named_as_its_cause() -> None:
    told = verbalization.sentence(
        "arousal", ("arousal", 0.0, 0.2), [("AU5", 0.4, 0.1)], {"AU5": 0.5}, True
    )
    assert "AU5" not in told
    assert (
        told
        == "Arousal would rise from 0.00 to 0.20 by a change that no Action Unit's reading tells."
    )


def test_what_should_not_matter_is_told_by_its_ends_and_the_way_between_them() -> None:
    causes = [("light: dim to bright", 0.2, 0.8), ("skin: light to dark", 0.9, 0.5)]
    told = verbalization.nuisance_sentence("AU12", ("AU12", 0.81, 0.32), causes, True)
    assert told == (
        "AU12 (lip corner puller) would go from 0.81 to 0.32 in probability, in the same "
        "expression, "
        "if light went 60% of the way from dim to bright and skin went 40% of the way from "
        "dark to light."
    )


def test_a_judge_that_follows_what_should_not_matter_speaks_against_it() -> None:
    assert (
        verbalization.trust(True, FINE, AGREES, "expression")[0]
        == verbalization.trust(True, FINE, DISAGREES, "nuisance")[0]
        == "high"
    )
    level, reasons = verbalization.trust(True, FINE, AGREES, "nuisance")
    assert level == "medium" and "another expression" in reasons[-1]


def test_another_skin_is_not_another_expression() -> None:
    changed = FINE | {"identity": 0.1}
    assert verbalization.trust(True, changed, DISAGREES, "nuisance")[0] == "high"
    assert verbalization.trust(True, changed, AGREES, "expression")[0] == "low"


def test_a_try_that_falls_short_says_so() -> None:
    told = verbalization.sentence(
        "AU12", ("AU12", 0.9, 0.6), [("AU12", 0.8, 0.6)], {"AU12": -0.8}, False
    )
    assert told.endswith("; that is not enough to change the decision.")
    assert "from 0.90 to 0.60 in probability" in told


def test_nothing_against_it_means_high_trust() -> None:
    level, reasons = verbalization.trust(True, FINE, AGREES)
    assert level == "high"
    assert len(reasons) == 2
    assert reasons[-1] == "an independent judge sees the change too (0.70 to 0.20)"


@pytest.mark.parametrize(
    ("name", "value", "level", "word"),
    [
        ("identity", 0.3, "low", "0.30"),
        ("identity", 0.7, "medium", "0.70"),
        ("realism", 0.0, "low", "0.00"),
        ("stability", 0.5, "medium", "50%"),
        ("reconstruction_percentile", 0.98, "medium", "98%"),
        ("outside", 0.6, "medium", "60%"),
        ("sparsity", 7.0, "medium", "7 other"),
        ("support", 0.0, "medium", "few real faces"),
    ],
)
def test_every_doubt_names_its_number(name: str, value: float, level: str, word: str) -> None:
    found, reasons = verbalization.trust(True, FINE | {name: value}, AGREES)
    assert found == level
    assert len(reasons) == 2
    assert word in reasons[0]


@pytest.mark.parametrize(
    ("judge_agreement", "word"),
    [(None, "nobody independent was asked"), (DISAGREES, "does not see the change (0.70 to 0.68)")],
)
def test_what_no_independent_judge_confirms_is_not_trusted_highly(
    judge_agreement: JudgeAgreement | None, word: str
) -> None:
    level, reasons = verbalization.trust(True, FINE, judge_agreement)
    assert level == "medium"
    assert word in reasons[-1]


def test_an_invalid_answer_is_never_trusted() -> None:
    level, reasons = verbalization.trust(
        False, FINE | {"validity_margin": -0.3, "stability": 0.5}, AGREES
    )
    assert level == "low"
    assert "-0.30" in reasons[0]
    assert len(reasons) == 3
