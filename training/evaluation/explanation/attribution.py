"""Which AUs make valence and arousal: attributions of explanations against the rule of the
renderer.

The rule is known (training/renderer/expressions.py), so for every face and AU it is known how much
valence or arousal would change if that AU alone went to its other end. An explanation's attribution
claims just that of the model. Integrated Gradients speak of pixels: an AU gets the share of the
region where it shows, whose sign says nothing about an AU that is not there. So both are compared
by size, and the attribution by sign too. Spearman's rank correlation over the AUs of one face. The
rule is of the people in the data; a model that reads faces otherwise may be explained rightly and
still disagree. Shape letters: N questions, S side in px, K Action Units.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr

from affect.catalogue import CATALOGUE
from affect.counterfactual.measure import integrated_gradients, region_gradients
from affect.counterfactual.search import Rows
from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import Floats
from training.evaluation.explanation.questions import AnsweredQuestions
from training.renderer.affect_rule import affect_of
from training.renderer.expressions import AU_CODES

MOST_FACES = 100
BATCH_FACES = 16


@dataclass(frozen=True)
class AttributionFigures:
    """Means over faces of Spearman's correlation with the rule, intervals over people."""

    faces: int  # asked about valence or arousal whose true AUs and rule are known
    signed: Interval  # the attribution: which AUs, and which way
    size: Interval  # the attribution without its signs
    gradients: Interval  # Integrated Gradients over each AU's region, without signs
    ahead: Interval  # size - gradients, face by face


def measure(
    model: AffectModel, questions: AnsweredQuestions, rng: np.random.Generator
) -> AttributionFigures | None:
    """Compare the first such answers.

    None where the model does not learn the renderer's AUs or no face follows its rule.
    """
    aus = len(model.card.vocabulary)
    if not set(AU_CODES) <= set(model.card.vocabulary):
        return None
    rows = _comparable(questions, aus)
    if not len(rows):
        return None
    truth, column = questions.faces.truth[rows, :aus], questions.column[rows] - aus
    codes = model.card.vocabulary
    rule = np.stack([by_rule(codes, row, int(c)) for row, c in zip(truth, column, strict=True)])
    answers = [questions.answers[i] for i in rows]
    start = [one.factual.va[0, c].item() for one, c in zip(answers, column, strict=True)]
    grown = np.sign(questions.target[rows] - start)
    attributions = np.array([[one.attribution[code] for code in codes] for one in answers])
    columns = {
        "signed": _correlations(attributions, grown[:, None] * rule),
        "size": _correlations(np.abs(attributions), np.abs(rule)),
        "gradients": _correlations(np.abs(_by_region(model, questions, rows)), np.abs(rule)),
    }
    columns["ahead"] = columns["size"] - columns["gradients"]
    weights = metrics.resamplings(questions.faces.identity[rows], rng)
    return AttributionFigures(
        len(rows), **{name: mean_interval(values, weights) for name, values in columns.items()}
    )


def _comparable(questions: AnsweredQuestions, aus: int) -> np.ndarray:
    """Rows about valence or arousal whose true AUs and rule are known."""
    faces = questions.faces
    is_known = np.isfinite(faces.truth[:, :aus]).all(1) & np.isfinite(faces.expected_va).all(1)
    complete = np.array([len(answer.attribution) == aus for answer in questions.answers])
    return np.flatnonzero((questions.column >= aus) & is_known & complete)[:MOST_FACES]


def by_rule(vocabulary: tuple[str, ...], truth: Floats, dimension: int) -> Floats:
    """(K,) change of valence (0) or arousal (1) by the rule when each AU alone goes from its true
    intensity (K,) to the other end.
    """
    state = dict(zip(vocabulary, truth.tolist(), strict=True))
    start = affect_of(state)[dimension]
    return np.array(
        [
            affect_of({**state, code: float(value < 0.5)})[dimension] - start
            for code, value in state.items()
        ]
    )


def _by_region(model: AffectModel, questions: AnsweredQuestions, rows: np.ndarray) -> Floats:
    """(R, K) signed share of Integrated Gradients in the region where each AU shows."""
    device, of_face = model.platt.device, []
    for start in range(0, len(rows), BATCH_FACES):
        batch = rows[start : start + BATCH_FACES]
        with torch.inference_mode():
            x = model.to_pixels(torch.from_numpy(questions.faces.images[batch]).to(device))
            column = torch.from_numpy(questions.column[batch]).to(device)
            target = torch.from_numpy(questions.target[batch]).float().to(device)
            shares, _ = integrated_gradients(model, Rows.of(x, model.read(x), column, target))
        of_face += [region_gradients(one) for one in shares.double().cpu().numpy()]
    return np.array(
        [
            [shares[CATALOGUE[code].region.value] for code in model.card.vocabulary]
            for shares in of_face
        ]
    )


def _correlations(attributions: Floats, rule: Floats) -> Floats:
    """(N,) Spearman's correlation of each row; NaN where one side ranks nothing."""
    is_defined = [np.ptp(a) > 0 and np.ptp(b) > 0 for a, b in zip(attributions, rule, strict=True)]
    return np.array(
        [
            spearmanr(a, b).statistic if ok else np.nan
            for a, b, ok in zip(attributions, rule, is_defined, strict=True)
        ]
    )
