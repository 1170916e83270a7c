"""A level of trust is named only where the card says that it was earned."""

from dataclasses import replace

import pytest

from affect.card import EarnedTrust, TrustName, TrustRequirement, WarningLimits
from affect.counterfactual import JudgeAgreement
from affect.counterfactual.trust import UNMEASURED, Evidence, outside, trust, trust_score

FINE = {
    "moved": -0.5,
    "validity_margin": 1.0,
    "identity": 0.99,
    "realism": 0.5,
    "stability": 1.0,
    "support": 0.5,
    "reconstruction_percentile": 0.5,
    "outside": 0.05,
    "sparsity": 1.0,
}
LEVELS: dict[TrustName, TrustRequirement] = {
    "high": TrustRequirement(least=0.8, earned=()),
    "medium": TrustRequirement(least=0.4, earned=()),
}
SEES, SEES_HALF, BLIND = (
    JudgeAgreement(0.7, after, agrees)
    for after, agrees in ((0.2, True), (0.45, True), (0.68, False))
)
EVIDENCE = Evidence(True, FINE, SEES)


@pytest.mark.parametrize(
    ("agreement", "score", "level"),
    [(SEES, 1.0, "high"), (SEES_HALF, 0.5, "medium"), (BLIND, 0.04, "low"), (None, 0.0, "low")],
)
def test_the_level_is_how_much_of_the_change_the_judge_sees(
    agreement: JudgeAgreement | None, score: float, level: str
) -> None:
    verdict = trust(replace(EVIDENCE, agreement=agreement), LEVELS)
    assert verdict.score == pytest.approx(score) and verdict.level == level


def test_a_card_without_levels_never_says_high() -> None:
    assert trust(EVIDENCE, {}).level == "medium"


def test_a_card_without_measured_trust_says_so_where_there_is_a_judge() -> None:
    assert UNMEASURED in trust(EVIDENCE, {}).reasons
    assert UNMEASURED not in trust(replace(EVIDENCE, agreement=None), {}).reasons
    assert UNMEASURED not in trust(EVIDENCE, LEVELS).reasons


def test_where_no_level_was_earned_an_answer_is_low_and_says_what_was_measured() -> None:
    figures = (_figures(0.49, 0.39), _figures(0.72, 0.62))
    unearned: dict[TrustName, TrustRequirement] = {
        "high": TrustRequirement(least=None, earned=figures),
        "medium": TrustRequirement(least=None, earned=figures),
    }
    verdict = trust(EVIDENCE, unearned)
    assert (verdict.level, verdict.score) == ("low", 1.0)
    assert (
        "of 100 measured answers a second judge confirmed 49% (39% at least)" in verdict.reasons[1]
    )
    assert trust(replace(EVIDENCE, family="nuisance"), unearned).level == "medium"


def test_a_card_of_before_still_says_from_which_score_on() -> None:
    before = TrustRequirement.model_validate_json('{"least": 0.8, "earned": []}')
    assert trust(EVIDENCE, {"high": before}).level == "high"


def _figures(confirmed: float, low: float) -> EarnedTrust:
    return EarnedTrust(on="faces", answers=100, confirmed=confirmed, low=low, high=confirmed + 0.1)


def test_a_level_above_one_that_was_not_earned_is_named_all_the_same() -> None:
    levels: dict[TrustName, TrustRequirement] = {
        "high": TrustRequirement(least=None, earned=(_figures(0.8, 0.75),)),
        "medium": LEVELS["medium"],
    }
    verdict = trust(EVIDENCE, levels)
    assert verdict.level == "medium" and not any("no level" in one for one in verdict.reasons)


def test_a_level_that_was_not_earned_is_not_named() -> None:
    only_medium: dict[TrustName, TrustRequirement] = {"medium": LEVELS["medium"]}
    assert trust(EVIDENCE, only_medium).level == "medium"
    assert trust(EVIDENCE, {"high": LEVELS["high"]}).level == "high"
    assert trust(replace(EVIDENCE, agreement=SEES_HALF), {"high": LEVELS["high"]}).level == "low"


def test_a_judge_that_sees_the_opposite_scores_nothing() -> None:
    assert trust_score(replace(EVIDENCE, agreement=JudgeAgreement(0.2, 0.7, False))) == 0


@pytest.mark.parametrize(
    ("realism", "pose", "words"),
    [(0.01, (0.0, 0.0, 0.0), "realism 0.01"), (0.9, (60.0, 0.0, 0.0), "yaw 60"), (0.9, (), "")],
)
def test_faces_that_trust_was_not_measured_on_are_not_trusted_highly(
    realism: float, pose: tuple[float, ...], words: str
) -> None:
    reasons = outside(WarningLimits(), realism, pose)
    verdict = trust(replace(EVIDENCE, outside=reasons), LEVELS)
    assert verdict.level == ("medium" if words else "high")
    assert any(words in reason for reason in verdict.reasons) and verdict.in_domain is not bool(
        words
    )


@pytest.mark.parametrize(
    "shortcut", [{"rule": 0.1, "bystanders": 0.0}, {"rule": 1.0, "bystanders": 1.0}]
)
def test_a_shortcut_is_not_trusted_highly(shortcut: dict[str, float]) -> None:
    assert trust(replace(EVIDENCE, scores=FINE | shortcut), LEVELS).level == "medium"
    assert (
        trust(replace(EVIDENCE, scores=FINE | {"rule": 1.0, "bystanders": 0.0}), LEVELS).level
        == "high"
    )


def test_a_face_that_is_drawn_worse_than_those_that_were_measured_is_not_trusted_highly() -> None:
    measured = {**LEVELS, "high": LEVELS["high"].model_copy(update={"redrawn": 0.7})}
    for percentile, level in ((0.7, "high"), (0.71, "medium")):
        drawn = replace(EVIDENCE, scores=FINE | {"reconstruction_percentile": percentile})
        verdict = trust(drawn, measured)
        assert verdict.level == level
        assert any("too poorly for high trust" in one for one in verdict.reasons) is (
            level != "high"
        )


def test_a_change_of_what_should_not_matter_was_never_measured() -> None:
    nuisance = replace(EVIDENCE, family="nuisance")
    assert trust(nuisance, LEVELS).level == "medium"
    assert "another expression" in trust(nuisance, LEVELS).reasons[-1]


def test_another_skin_is_not_another_expression() -> None:
    changed = replace(EVIDENCE, scores=FINE | {"identity": 0.1, "proximity": 0.1})
    other_skin = trust(replace(changed, family="nuisance"), LEVELS)
    assert other_skin.level == "medium" and not any(
        "drawn badly" in one for one in other_skin.reasons
    )
    assert trust(changed, LEVELS).level == "low"


@pytest.mark.parametrize(
    ("name", "value", "level", "word"),
    [
        ("identity", 0.3, "low", "0.30"),
        ("identity", 0.7, "high", "0.70"),
        ("realism", 0.0, "low", "0.00"),
        ("proximity", 0.02, "high", "2.0%"),
        ("stability", 0.5, "high", "50%"),
        ("reconstruction_percentile", 0.98, "medium", "98%"),
        ("outside", 0.6, "high", "60%"),
        ("sparsity", 7.0, "high", "7 other"),
        ("support", 0.0, "high", "few real faces"),
        ("rule", 0.2, "medium", "20%"),
        ("bystanders", 1.0, "medium", "no part in it"),
    ],
)
def test_every_doubt_names_its_number(name: str, value: float, level: str, word: str) -> None:
    verdict = trust(replace(EVIDENCE, scores=FINE | {name: value}), LEVELS)
    assert verdict.level == level
    assert len(verdict.reasons) == 2
    assert word in verdict.reasons[0]


@pytest.mark.parametrize(
    ("agreement", "word"),
    [(None, "nobody independent was asked"), (BLIND, "does not see the change (0.70 to 0.68)")],
)
def test_what_no_independent_judge_confirms_says_so(
    agreement: JudgeAgreement | None, word: str
) -> None:
    assert word in trust(replace(EVIDENCE, agreement=agreement), LEVELS).reasons[-1]


def test_an_invalid_answer_is_never_trusted() -> None:
    scores = FINE | {"validity_margin": -0.3, "stability": 0.5}
    verdict = trust(Evidence(False, scores, SEES), LEVELS)
    assert (verdict.level, verdict.score) == ("low", 0)
    assert "-0.30" in verdict.reasons[0] and len(verdict.reasons) == 3
