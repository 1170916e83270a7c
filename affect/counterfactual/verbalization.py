"""An explanation in words: what changed, in one sentence, and how far to trust it, with the numbers
that say so.
"""

from collections.abc import Sequence

from affect.catalogue import CATALOGUE
from affect.counterfactual.judge_agreement import JudgeAgreement
from affect.counterfactual.nuisance import turned
from affect.counterfactual.question import Family
from affect.labels import DIMENSIONS

VISIBLE = 0.05  # a reading that moves by less is not told
MAX_NAMED = 3
CHANGED_PERSON, SHIFTED_PERSON = 0.5, 0.8  # identity, cosine
UNREAL = 0.02  # realism, percentile
THIN_SUPPORT = 0.02
POOR_RECONSTRUCTION = 0.95  # percentile
OUTSIDE = 0.35  # share of the change
SIDE_EFFECTS = 4  # labels changed beside the asked
NOBODY_ASKED = "nobody independent was asked"
HARDLY_REACHED = 0.3  # share of the asked change that is found again in the picture

Change = tuple[str, float, float]


def trust(
    valid: bool,
    scores: dict[str, float],
    opinion: JudgeAgreement | None,
    family: Family = "expression",
) -> tuple[str, tuple[str, ...]]:
    """high, medium or low, and the measured reasons, the serious ones first, what the independent
    judge says last.

    What only the model itself has looked at is not trusted highly: an attack on its pixels would
    please it as well. A change of expression is confirmed by a judge that sees it too. A change of
    what should not matter is a weakness of this model only when the judge does *not* follow; when
    it does, the picture may show another expression after all.
    """
    # skin, age or shape may well be what was changed
    kept = scores if family == "expression" else scores | {"identity": 1.0}
    serious = [text for text, holds in _serious(valid, kept) if holds]
    mild = [text for text, holds in _mild(kept) if holds]
    what = "the person" if family == "expression" else "the expression"
    doubts = [*serious, *mild] or [
        f"the question is met, {what} is kept, and slight noise does not undo it"
    ]
    confirmed = opinion is not None and opinion.agrees == (family == "expression")
    level = "low" if serious else "high" if confirmed and not mild else "medium"
    return level, (*doubts, _heard(opinion, family))


def _heard(opinion: JudgeAgreement | None, family: Family) -> str:
    if opinion is None:
        return NOBODY_ASKED
    seen = f"({opinion.before:.2f} to {opinion.after:.2f})"
    if family == "nuisance":
        own = f"an independent judge does not follow {seen}: the weakness is this model's own"
        return (
            f"an independent judge follows {seen}: the picture may show another expression"
            if opinion.agrees
            else own
        )
    return (
        f"an independent judge sees the change too {seen}"
        if opinion.agrees
        else f"an independent judge does not see the change {seen}"
    )


def _serious(valid: bool, s: dict[str, float]) -> Sequence[tuple[str, bool]]:
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


def _mild(s: dict[str, float]) -> Sequence[tuple[str, bool]]:
    poor = (
        "the generator draws this face poorly (error larger than for "
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
        (poor, s["reconstruction_percentile"] > POOR_RECONSTRUCTION),
        (f"{s['outside']:.0%} of the change lies outside the face", s["outside"] > OUTSIDE),
        (f"{s['sparsity']:.0f} other readings change with it", s["sparsity"] > SIDE_EFFECTS),
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


def sentence(
    question: str, change: Change, units: Sequence[Change], asked: dict[str, float], valid: bool
) -> str:
    """ "Valence would fall from 0.42 to -0.10 if AU12 (lip corner puller) were reduced by 0.40."

    `change` is the questioned label before and after (an AU's probability), `units` what is read of
    the AUs before and after, `asked` how far the search moved each AU: only those that were moved
    and did move are named as the cause.
    """
    effect = _effect(question, change)
    moved = {
        code: after - before
        for code, before, after in units
        if code in asked and (after - before) * asked[code] > 0
    }
    named = sorted(
        ((code, by) for code, by in moved.items() if abs(by) > VISIBLE),
        key=lambda move: -abs(move[1]),
    )[:MAX_NAMED]
    parts = [
        f"{_named(code)} were {'raised' if by > 0 else 'reduced'} by {abs(by):.2f}"
        for code, by in named
    ]
    cause = f" if {_listed(parts)}" if parts else " by a change that no Action Unit's reading tells"
    return f"{effect}{cause}{'.' if valid else '; that is not enough to change the decision.'}"


def nuisance_sentence(question: str, change: Change, causes: Sequence[Change], valid: bool) -> str:
    """ "AU12 (lip corner puller) would go from 0.81 to 0.32 in probability, in the same expression,
    if light went 60 % of the way from dim to bright." `causes` are nuisances and where between
    their ends, 0 and 1, the face stands before and after.
    """
    parts = [_moved(name, end - start) for name, start, end in causes[:MAX_NAMED]]
    cause = f" if {_listed(parts)}" if parts else ""
    return (
        f"{_effect(question, change)}, in the same "
        f"expression,{cause}{'.' if valid else '; that is not enough to change the decision.'}"
    )


def _moved(name: str, by: float) -> str:
    what, _, ends = (name if by > 0 else turned(name)).partition(": ")
    return f"{what} went {abs(by):.0%} of the way from {ends}"


def _effect(label: str, change: Change) -> str:
    _, start, end = change
    if label not in DIMENSIONS:
        return f"{_named(label)} would go from {start:.2f} to {end:.2f} in probability"
    if abs(end - start) < 0.02:
        return f"{label.capitalize()} would stay near {start:.2f}"
    return (
        f"{label.capitalize()} would {'rise' if end > start else 'fall'} from "
        f"{start:.2f} to {end:.2f}"
    )


def _named(code: str) -> str:
    return f"{code} ({CATALOGUE[code].name})"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
