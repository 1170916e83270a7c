"""An explanation in words: what changed, in one sentence."""

from collections.abc import Sequence

from affect.catalogue import CATALOGUE
from affect.counterfactual.nuisance import reversed_name
from affect.counterfactual.rule import HOLDS
from affect.labels import DIMENSIONS

VISIBLE = 0.05  # a reading that moves by less is not reported
MAX_NAMED = 3

Change = tuple[str, float, float]


def shortcut_sentence(label: str, share: float, others: Sequence[Change]) -> str:
    """What is not as the rule of valence and arousal has it: how little of the change the movements
    make by it (`share`), and what moved without a part in it.

    " By the rule that the model learnt from, these movements make only 10% of it. AU43 (eyes
    closed) rises by 0.50, which has no part in valence."
    """
    parts = []
    if share < HOLDS:
        parts.append(
            " By the rule that the model learnt from, these movements make only "
            f"{max(share, 0.0):.0%} of it."
        )
    for code, before, after in others[:MAX_NAMED]:
        verb = "rises" if after > before else "falls"
        parts.append(
            f" {_named(code)} {verb} by {abs(after - before):.2f}, which has no part in {label}."
        )
    return "".join(parts)


def sentence(
    question: str, change: Change, units: Sequence[Change], requested: dict[str, float], valid: bool
) -> str:
    """ "Valence would fall from 0.42 to -0.10 if AU12 (lip corner puller) were reduced by 0.40."

    `change` is the questioned label before and after (an AU's probability), `units` what is read of
    the AUs before and after, `requested` how far the search moved each AU: only those that were
    moved and did move are named as the cause.
    """
    effect = _effect(question, change)
    changes = {
        code: after - before
        for code, before, after in units
        if code in requested and (after - before) * requested[code] > 0
    }
    named_changes = sorted(
        ((code, by) for code, by in changes.items() if abs(by) > VISIBLE),
        key=lambda move: -abs(move[1]),
    )[:MAX_NAMED]
    parts = [
        f"{_named(code)} were {'raised' if by > 0 else 'reduced'} by {abs(by):.2f}"
        for code, by in named_changes
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


def _moved(name: str, change: float) -> str:
    nuisance, _, ends = (name if change > 0 else reversed_name(name)).partition(": ")
    return f"{nuisance} went {abs(change):.0%} of the way from {ends}"


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
