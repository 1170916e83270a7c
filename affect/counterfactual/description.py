"""The description of an answer: pictures, predictions, measures, causes and a sentence, row by row.

Every flag is read off the final 8-bit picture.
Shape letters: N rows, S image side in px, K Action Units, L = K + 2 labels, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from affect.card import TrustName, TrustRequirement
from affect.counterfactual import measure, rule, verbalization
from affect.counterfactual.expression import Expression
from affect.counterfactual.judge_agreement import JudgeAgreement, judge_agreements
from affect.counterfactual.measure import U8, Floats
from affect.counterfactual.nuisance import Nuisance, help_of
from affect.counterfactual.question import CounterfactualQuestion
from affect.counterfactual.search import Cause, Rows, SearchResult
from affect.counterfactual.trust import Evidence, outside, trust
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel, Prediction
from affect.rows import take_rows

CHANGED = 0.1  # a reading that moves by more than this is named as changed


@dataclass(frozen=True)
class Explanation:
    """One answer. Pictures are uint8 RGB in the frame of the crop; predictions have one row."""

    question: CounterfactualQuestion  # resolved: label and target are set
    factual: Prediction
    reconstruction: U8  # (S, S, 3) the face as the generator alone would draw it
    reconstruction_read: Prediction
    reconstruction_error: float  # mean absolute difference of pixels in [0, 1]
    counterfactual: U8  # (S, S, 3)
    counterfactual_read: Prediction
    valid: bool  # whether the counterfactual, as 8-bit picture, is read as the question asks
    # label, from, to: every reading that moved, the largest first
    changes: tuple[tuple[str, float, float], ...]
    map: U8  # (S, S) grey, 0 where nothing changed
    signed: U8  # (S, S, 3) for people: warm where brighter, cool where darker
    frames: U8  # (F, S, S, 3) the way from the face to the counterfactual
    # what was moved, from, to: AUs by intensity, or nuisances by where the face stands between
    # their ends
    causes: tuple[Cause, ...]
    regions: dict[str, float]  # share of the change per region of the face and outside it
    # how far moving each AU (or nuisance) alone moves the decision towards the question
    attribution: dict[str, float]
    scores: dict[str, float]
    trust: str  # high, medium or low
    reasons: tuple[str, ...]
    judge_agreement: (
        JudgeAgreement | None
    )  # of an independent judge; None without a judge that knows the label
    sentence: str
    # (S, S) signed shares of the decision's number, when asked for
    integrated_gradients: Floats | None = None
    # other answers to the same question, as many as were asked for and differ
    alternatives: tuple["Explanation", ...] = ()


@dataclass(frozen=True)
class Task:
    """N faces with one question each, alike in family and in number of answers."""

    model: AffectModel
    rows: Rows
    questions: Sequence[CounterfactualQuestion]
    space: Expression | Nuisance
    frames: int
    judge: Judge | None

    @property
    def levels(self) -> dict[TrustName, TrustRequirement]:
        """Of trust, which hold for the judge that they were fitted with."""
        judge_digest = self.judge.card.sha256 if self.judge else None
        levels = self.model.card.trust_levels
        return {name: one for name, one in levels.items() if one.judge == judge_digest}


@dataclass(frozen=True)
class _Findings:
    """What was measured of all N rows."""

    facts: Tensor  # (N, S, S, 3) uint8, as the next two
    redrawn: Tensor
    counterfactuals: Tensor
    frames: Tensor  # (N, F, S, S, 3) uint8
    before: Prediction
    redrawn_read: Prediction
    after: Prediction
    labels_before: Tensor  # (N, L)
    labels_after: Tensor  # (N, L)
    measured: dict[str, Tensor]  # (N,) each
    causes: list[list[Cause]]
    attribution: list[dict[str, float]]
    gradients: dict[int, tuple[Floats, float]]  # (S, S) shares, completeness error
    agreements: list[JudgeAgreement | None]


def describe(task: Task, result: SearchResult, gradients: Sequence[bool]) -> list[Explanation]:
    """The explanation of each of the N rows; `gradients` marks rows that request pixel shares."""
    findings = _find(task, result, gradients)
    return [_explanation(task, findings, i) for i in range(len(task.questions))]


# -- all rows at once ------------------------------------------------------------------------------


def _find(task: Task, result: SearchResult, gradients: Sequence[bool]) -> _Findings:
    model, rows, best = task.model, task.rows, result.best
    assert rows.redrawn is not None
    facts, redrawn = model.to_images(rows.x), model.to_images(rows.redrawn)
    after, causes = model.calibrate(result.output), task.space.causes(rows, result.move)
    attribution = task.space.attribution(rows, result.gain)
    if isinstance(task.space, Nuisance):
        causes = _sorted_by_gain(causes, attribution)
    return _Findings(
        facts=facts,
        redrawn=redrawn,
        counterfactuals=best.images,
        frames=_frames(task, result, facts),
        before=model.calibrate(rows.output),
        redrawn_read=model.predict(model.to_pixels(redrawn)),
        after=after,
        labels_before=rows.output.labels,
        labels_after=result.output.labels,
        measured=_measured(task, result, after)
        | {"reconstruction_error": (facts.float() - redrawn.float()).abs().mean((1, 2, 3)) / 255},
        causes=causes,
        attribution=attribution,
        gradients=_gradients(model, rows, gradients),
        agreements=_agreements(task, result),
    )


def _frames(task: Task, result: SearchResult, facts: Tensor) -> Tensor:
    return measure.interpolate_frames(
        task.space, task.rows, result.move, (facts, result.best.images), task.frames
    )


def _sorted_by_gain(
    causes: list[list[Cause]], attribution: list[dict[str, float]]
) -> list[list[Cause]]:
    """Causes sorted by the effect of each alone: several nuisances may move the full way, so the
    size of a move says little.
    """
    return [
        sorted(row, key=lambda cause: -help_of(gains, cause))
        for row, gains in zip(causes, attribution, strict=True)
    ]


def _measured(task: Task, result: SearchResult, after: Prediction) -> dict[str, Tensor]:
    model, rows, best = task.model, task.rows, result.best
    measured = {
        "moved": _moved(rows, result),
        "validity_margin": best.margin,
        "identity": (rows.output.identity * result.output.identity).sum(1),
        "realism": after.realism,
        "stability": measure.stability(model, rows, best.images, best.margin > 0),
        "support": measure.support(model, result.output.labels),
    }
    if isinstance(task.space, Nuisance):
        measured["reached"] = task.space.reached(rows, result.move, result.output.latent)
    return measured


def _gradients(
    model: AffectModel, rows: Rows, requested: Sequence[bool]
) -> dict[int, tuple[Floats, float]]:
    """Integrated Gradients (S, S) and their completeness error of the rows that want them."""
    chosen = [i for i, is_requested in enumerate(requested) if is_requested]
    if not chosen:
        return {}
    subset = take_rows(rows, torch.tensor(chosen, device=rows.x.device))
    shares, error = measure.integrated_gradients(model, subset)
    return {i: (shares[index].cpu().numpy(), float(error[index])) for index, i in enumerate(chosen)}


def _agreements(task: Task, result: SearchResult) -> list[JudgeAgreement | None]:
    rows, best = task.rows, result.best
    return judge_agreements(
        task.judge,
        rows.x,
        task.model.to_pixels(best.images),
        [question.label or "" for question in task.questions],
        _moved(rows, result).tolist(),
    )


def _moved(rows: Rows, result: SearchResult) -> Tensor:
    """(N,) by how much the questioned label moves, as the model reads it."""
    shift = result.output.labels - rows.output.labels
    return shift.gather(1, rows.column[:, None]).squeeze(1)


# -- one row ---------------------------------------------------------------------------------------


def _explanation(task: Task, findings: _Findings, i: int) -> Explanation:
    f, question, row = findings, task.questions[i], slice(i, i + 1)
    fact, counter = f.facts[i].cpu().numpy(), f.counterfactuals[i].cpu().numpy()
    shift = np.abs(counter.astype(np.float32) - fact).mean(2) / 255  # (S, S)
    changes = _changes(task.model, f.labels_before[i], f.labels_after[i])
    scores = _scores(task, f, i) | {
        "proximity": round(float(shift.mean()), 5),
        "sparsity": float(sum(name != question.label for name, _, _ in changes)),
        "outside": measure.region_shares(shift)["outside"],
    }
    before, after = take_rows(f.before, row), take_rows(f.after, row)
    valid = bool(f.measured["validity_margin"][i] > 0)
    by_rule = _by_rule(task.model, question, (before, after), scores["moved"])
    scores |= by_rule.scores
    card, realism = task.model.card, float(before.realism[0])
    doubts = outside(card.warning_limits, realism, before.pose[0].tolist())
    evidence = Evidence(valid, scores, f.agreements[i], question.family, doubts)
    trusted = trust(evidence, task.levels)
    return Explanation(
        question=question,
        factual=before,
        reconstruction=f.redrawn[i].cpu().numpy(),
        reconstruction_read=take_rows(f.redrawn_read, row),
        reconstruction_error=float(f.measured["reconstruction_error"][i]),
        counterfactual=counter,
        counterfactual_read=after,
        valid=valid,
        changes=changes,
        map=measure.change_map(shift),
        signed=measure.signed_map(fact, counter),
        frames=f.frames[i].cpu().numpy(),
        causes=tuple(f.causes[i]),
        regions=measure.region_shares(shift),
        attribution=f.attribution[i],
        scores=scores | {"trust": trusted.score, "in_domain": float(trusted.in_domain)},
        trust=trusted.level,
        reasons=trusted.reasons,
        judge_agreement=f.agreements[i],
        sentence=_sentence(task.model, question, (before, after), f.causes[i], valid)
        + by_rule.sentence,
        integrated_gradients=f.gradients[i][0] if i in f.gradients else None,
    )


@dataclass(frozen=True)
class _ByRule:
    """How an answer agrees with the rule of valence and arousal, in numbers and in words."""

    scores: dict[str, float]
    sentence: str


def _by_rule(
    model: AffectModel,
    question: CounterfactualQuestion,
    read: tuple[Prediction, Prediction],
    change: float,
) -> _ByRule:
    """`read` is what is read before and after, one row each. Nothing where the rule is silent."""
    weights, label = model.card.rule_weights, question.label or ""
    if label not in DIMENSIONS or not weights or question.family == "nuisance":
        return _ByRule({}, "")
    units = _units(model, read)
    share, others = (
        rule.rule_share(weights, label, units, change),
        rule.unrelated_units(weights, label, units),
    )
    scores = {"rule": round(share, 4), "bystanders": float(len(others))}
    return _ByRule(scores, verbalization.shortcut_sentence(label, share, others))


def _scores(task: Task, findings: _Findings, i: int) -> dict[str, float]:
    """The measures of row i, and where its reconstruction error stands among real faces'."""
    scores = {name: round(float(values[i]), 4) for name, values in findings.measured.items()}
    scores["realism_before"] = round(float(findings.before.realism[i]), 4)
    quantiles = task.model.card.reference.get("reconstruction_error")
    error = float(findings.measured["reconstruction_error"][i])
    scores["reconstruction_percentile"] = round(measure.percentile(quantiles, error), 4)
    if i in findings.gradients:
        scores["completeness_error"] = round(findings.gradients[i][1], 4)
    return scores


def _changes(
    model: AffectModel, before: Tensor, after: Tensor
) -> tuple[tuple[str, float, float], ...]:
    names = model.card.labels_of.names
    changes = [
        (name, float(a), float(b))
        for name, is_learnt, a, b in zip(names, model.known, before, after, strict=True)
        if bool(is_learnt)
    ]
    named = [(name, round(a, 4), round(b, 4)) for name, a, b in changes if abs(b - a) > CHANGED]
    return tuple(sorted(named, key=lambda change: -abs(change[2] - change[1])))


def _sentence(
    model: AffectModel,
    question: CounterfactualQuestion,
    read: tuple[Prediction, Prediction],
    causes: list[Cause],
    valid: bool,
) -> str:
    """`read` is what is read before and after, one row each."""
    label, codes = question.label or "", model.card.vocabulary
    if label in DIMENSIONS:
        numbers = [float(one.va[0, DIMENSIONS.index(label)]) for one in read]
    else:
        numbers = [float(one.probability[0, codes.index(label)]) for one in read]
    change = (label, numbers[0], numbers[1])
    if question.family == "nuisance":
        return verbalization.nuisance_sentence(label, change, causes, valid)
    units = _units(model, read)
    requested = {code: end - start for code, start, end in causes}
    return verbalization.sentence(label, change, units, requested, valid)


def _units(
    model: AffectModel, read: tuple[Prediction, Prediction]
) -> list[tuple[str, float, float]]:
    """Code, intensity before and after of each AU, of a run that knows them."""
    if not bool(model.known[0]):
        return []
    before, after = (one.intensity[0].tolist() for one in read)
    return list(zip(model.card.vocabulary, before, after, strict=True))
