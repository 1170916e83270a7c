"""How far to trust an answer: a level that the card says is earned, and the measured reasons.

The score is how much of the model's change an independent judge sees. What only the model itself
has looked at scores nothing: an attack on its pixels would please it as well. From which score on
an answer is called "high" or "medium" stands in the card, fitted so that a second judge confirms
such answers (training/evaluation/explanation/trust_levels.py). Where that was measured and no level
was earned, an answer is "low" and says so; a card without levels was never measured and calls
nothing "high". Nor is anything else that was not measured: faces beyond the limits of the card's
warnings, faces that the generator draws worse than those that were measured, and changes of what
should not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from affect.card import POOR_RECONSTRUCTION, TrustName, TrustRequirement, WarningLimits
from affect.counterfactual.judge_agreement import JudgeAgreement
from affect.counterfactual.question import Family
from affect.counterfactual.rule import HOLDS

CHANGED_PERSON, SHIFTED_PERSON = 0.5, 0.8  # identity, cosine
UNREAL = 0.02  # realism, percentile
# Mean change of pixels, full scale 1: of photographs' counterfactuals beyond it two thirds and more
# are visibly drawn badly (LOG).
MUCH_CHANGED = 0.016
THIN_SUPPORT = 0.02
OUTSIDE = 0.35  # share of the change
SIDE_EFFECTS = 4  # labels changed beside the asked
# Share of answers that a second judge must confirm, by its lower bound, on each kind of faces.
REQUIRED_SHARES: Mapping[TrustName, float] = {"high": 0.9, "medium": 0.7}
NO_JUDGE = "nobody independent was asked"
UNMEASURED = "how often such answers hold was not measured for this model and this judge"
HARDLY_REACHED = 0.3  # share of the asked change that is found again in the picture

Levels = Mapping[TrustName, TrustRequirement]


@dataclass(frozen=True)
class Evidence:
    """What is known of one answer. `outside`: why trust was not measured on such a face."""

    valid: bool
    scores: Mapping[str, float]
    agreement: JudgeAgreement | None
    family: Family = "expression"
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrustVerdict:
    """A level, its score in [0, 1], and the reasons: the serious ones first, what the independent
    judge says last.
    """

    level: str  # high, medium or low
    score: float
    in_domain: bool  # else never "high": trust was not measured on such answers
    reasons: tuple[str, ...]


def trust(evidence: Evidence, levels: Levels) -> TrustVerdict:
    """As the card's levels have it."""
    # skin, age or shape may well be what was changed, and much of the picture with it
    expression = evidence.family == "expression"
    of_nuisance = {**evidence.scores, "identity": 1.0, "proximity": 0.0}
    complete = evidence.scores if expression else of_nuisance
    serious = [text for text, holds in _serious(evidence.valid, complete) if holds]
    limit = levels["high"].redrawn if "high" in levels else POOR_RECONSTRUCTION
    mild = [*evidence.outside, *(text for text, holds in _mild(complete, limit) if holds)]
    what = "the person" if expression else "the expression"
    doubts = [*serious, *mild] or [
        f"the question is met, {what} is kept, and slight noise does not undo it"
    ]
    score = 0.0 if serious else trust_score(evidence)
    in_domain = expression and not evidence.outside and _by_the_rule(evidence.scores)
    may_be_high = in_domain and evidence.scores["reconstruction_percentile"] <= limit
    level = "low" if serious else _level(score, may_be_high, levels) if expression else "medium"
    worth = _worth(levels) if expression and not serious and evidence.agreement else ()
    clause = _judge_clause(evidence.agreement, evidence.family)
    return TrustVerdict(level, score, in_domain, (*doubts, *worth, clause))


def trust_score(evidence: Evidence) -> float:
    """Share in [0, 1] of the model's change that the judge sees; 0 where nobody was asked."""
    if evidence.agreement is None or not evidence.scores.get("moved"):
        return 0.0
    observed = evidence.agreement.after - evidence.agreement.before
    return round(min(max(observed / evidence.scores["moved"], 0.0), 1.0), 4)


def outside(limits: WarningLimits, realism: float, pose: Sequence[float]) -> tuple[str, ...]:
    """Why trust was not measured on such a face; `pose` (yaw, pitch, ...) may be empty."""
    reasons = []
    if limits.is_unlike(realism):
        reasons.append(
            f"the face is unlike those that trust was measured on (realism {realism:.2f})"
        )
    if len(pose) and limits.is_turned(pose[0], pose[1]):
        reasons.append(
            "the head is turned further than trust was measured for "
            f"(yaw {pose[0]:.0f}, pitch {pose[1]:.0f} degrees)"
        )
    return tuple(reasons)


def _level(score: float, may_be_high: bool, levels: Levels) -> str:
    if not levels:
        return "medium"  # never measured
    high, medium = (levels[name].least if name in levels else None for name in ("high", "medium"))
    if may_be_high and high is not None and score >= high:
        return "high"
    least = high if medium is None else medium
    return "medium" if least is not None and score >= least else "low"


def _worth(levels: Levels) -> tuple[str, ...]:
    """What is to be said where no level is named: it was not measured, or none was earned."""
    if not levels:
        return (UNMEASURED,)
    figures = [one for level in levels.values() for one in level.earned]
    if not figures or any(level.least is not None for level in levels.values()):
        return ()
    worst = min(figures, key=lambda one: one.low)
    return (
        f"no level of trust is earned: of {worst.answers} measured answers a second judge "
        f"confirmed {worst.confirmed:.0%} ({worst.low:.0%} at least), and medium takes "
        f"{REQUIRED_SHARES['medium']:.0%}",
    )


def _by_the_rule(scores: Mapping[str, float]) -> bool:
    return scores.get("rule", 1.0) >= HOLDS and not scores.get("bystanders", 0.0)


def _judge_clause(agreement: JudgeAgreement | None, family: Family) -> str:
    if agreement is None:
        return NO_JUDGE
    readings = f"({agreement.before:.2f} to {agreement.after:.2f})"
    if family == "nuisance":
        not_followed = (
            f"an independent judge does not follow {readings}: the weakness is this model's own"
        )
        return (
            f"an independent judge follows {readings}: the picture may show another expression"
            if agreement.agrees
            else not_followed
        )
    return (
        f"an independent judge sees the change too {readings}"
        if agreement.agrees
        else f"an independent judge does not see the change {readings}"
    )


def _serious(valid: bool, s: Mapping[str, float]) -> Sequence[tuple[str, bool]]:
    return (
        (
            f"the question was not met (margin {s['validity_margin']:.2f}); this is the "
            "nearest try",
            not valid,
        ),
        (
            f"the person may have changed (identity {s['identity']:.2f} of 1)",
            s["identity"] < CHANGED_PERSON,
        ),
        (
            f"the picture looks unlike real faces (realism {s['realism']:.2f})",
            s["realism"] < UNREAL,
        ),
    )


def _mild(s: Mapping[str, float], worst_redrawn: float) -> Sequence[tuple[str, bool]]:
    poor = (
        "the generator draws this face too poorly for high trust (error larger than for "
        f"{s['reconstruction_percentile']:.0%} of real faces)"
    )
    return (
        (
            f"the person changed a little (identity {s['identity']:.2f} of 1)",
            CHANGED_PERSON <= s["identity"] < SHIFTED_PERSON,
        ),
        (
            f"slight noise changes the decision (steady in {s['stability']:.0%} of tries)",
            s["stability"] < 1,
        ),
        (poor, s["reconstruction_percentile"] > worst_redrawn),
        (
            "so much of the picture changed that such pictures are mostly drawn badly "
            f"(pixels by {s.get('proximity', 0):.1%} on average)",
            s.get("proximity", 0) > MUCH_CHANGED,
        ),
        (f"{s['outside']:.0%} of the change lies outside the face", s["outside"] > OUTSIDE),
        (f"{s['sparsity']:.0f} other readings change with it", s["sparsity"] > SIDE_EFFECTS),
        (
            "by the rule that the model learnt from, these movements make only "
            f"{max(s.get('rule', 1.0), 0.0):.0%} of the change",
            s.get("rule", 1.0) < HOLDS,
        ),
        (
            f"{s.get('bystanders', 0):.0f} movements go along that have no part in it",
            s.get("bystanders", 0) > 0,
        ),
        (
            f"the picture shows little of the asked change ({s.get('reached', 1):.0%})",
            s.get("reached", 1) < HARDLY_REACHED,
        ),
        (
            f"few real faces show such a state (fewer than {max(s['support'], 0.01):.0%} "
            "are so alone)",
            s["support"] < THIN_SUPPORT,
        ),
    )
