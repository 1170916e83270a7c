"""Explanations against the truth: twins are one person in one scene in two states, so the true
counterfactual is a picture.

Only pairs that differ in one AU alone are asked about: then the other picture is the answer.
Shape letters: P pairs, S side in px, K Action Units.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.counterfactual import CounterfactualQuestion
from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import U8, Faces, Floats
from training.evaluation.explanation.grading import CHANGED
from training.evaluation.explanation.questions import answer
from training.evaluation.judge.evaluator import JudgeEvaluator
from training.evaluation.recognition.recognition import presence

APART, ALIKE = 0.3, 0.15  # the one AU differs by at least, every other by at most
TRULY_CHANGED = 8 / 255  # a pixel that differs by more between twins has truly changed
MOST_PAIRS = 200
AVERAGED_PARTS = 32  # of the side, over one of which a change is averaged


@dataclass(frozen=True)
class TwinFigures:
    """Means over pairs, intervals over people."""

    pairs: int  # that differ in one AU
    # of these, faces whose AU the model reads rightly, so that there is something to ask
    asked: int
    # 1 - |answer - twin| / |face - twin|; 0 is doing nothing, 1 is the truth itself
    change_explained: Interval
    # the same of squares: sensor noise, which no answer can foresee, weighs less
    energy_explained: Interval
    direction: Interval  # cosine of the answer's change and the true change
    # the same of signed changes averaged over a 32nd of the side: grain and pixel noise, which no
    # answer can foresee, are averaged away
    direction_averaged: Interval
    nearer: Interval  # averaged so, the answer is nearer to the twin than the untouched face is
    map_auc: Interval  # area under the ROC curve of the map against the pixels that truly changed
    pointing: Interval  # the brightest pixel of the map has truly changed
    by_chance: Interval  # share of pixels that truly changed: what pointing scores by chance
    judge_turns: Interval  # the judge reads the AU's flip in the answer
    judge_turns_in_twin: Interval  # and in the twin: the ceiling
    labels_changed: Interval  # other AUs that the judge sees change in the answer
    # and in the twin, where truly none does: the judge's own error
    labels_changed_in_twin: Interval


def measure(
    model: AffectModel,
    evaluator: JudgeEvaluator,
    faces: Faces,
    thresholds: Floats,
    rng: np.random.Generator,
) -> TwinFigures | None:
    """Ask about each such pair's AU. `thresholds` (K,) are the judge's.

    None where the data have no such pairs.
    """
    pair_rows = pairs(model, faces) if model.card.learns_aus else np.empty((0, 3), np.intp)
    pair_rows = pair_rows[np.sort(rng.permutation(len(pair_rows))[:MOST_PAIRS])]
    if not len(pair_rows):
        return None
    target_present = presence(model.card, faces.truth)[pair_rows[:, 1], pair_rows[:, 2]]
    codes = model.card.vocabulary
    questions = [
        CounterfactualQuestion(codes[k], float(is_present))
        for k, is_present in zip(pair_rows[:, 2], target_present, strict=True)
    ]
    answers = answer(model, faces.images[pair_rows[:, 0]], questions)
    possible = np.array([one is not None for one in answers])
    if not possible.any():
        return None
    start, twins = (faces.images[pair_rows[possible, side]] for side in (0, 1))
    possible_answers = [one for one in answers if one is not None]
    counterfactuals = np.stack([one.counterfactual for one in possible_answers])
    columns = _against(
        start, twins, counterfactuals, np.stack([one.map for one in possible_answers])
    )
    columns |= _judge_columns(
        evaluator,
        (start, counterfactuals, twins),
        pair_rows[possible, 2],
        target_present[possible],
        thresholds,
    )
    weights = metrics.resamplings(faces.identity[pair_rows[possible, 0]], rng)
    return TwinFigures(
        len(pair_rows),
        int(possible.sum()),
        **{name: mean_interval(values, weights) for name, values in columns.items()},
    )


def pairs(model: AffectModel, faces: Faces) -> NDArray[np.intp]:
    """(P, 3) face, twin, and the column of the one AU in which they differ."""
    truth, present = faces.truth[:, : len(model.card.vocabulary)], presence(model.card, faces.truth)
    differing = []
    for first in range(len(faces)):
        second = int(faces.twin_of[first])
        while second not in (-1, first):
            differences = np.abs(truth[second] - truth[first])
            k = int(np.nan_to_num(differences).argmax())
            is_only_change = (
                np.nan_to_num(np.delete(differences, k), nan=np.inf).max(initial=0) <= ALIKE
            )
            if (
                differences[k] >= APART
                and is_only_change
                and present[first, k] != present[second, k]
            ):
                differing.append((first, second, k))
            second = int(faces.twin_of[second])
    return np.array(differing, np.intp).reshape(-1, 3)


def _against(start: U8, twins: U8, counterfactuals: U8, maps: U8) -> dict[str, Floats]:
    """(P,) columns that need the true picture."""
    left, right, drawn_image = (
        image.astype(np.float64) / 255 for image in (start, twins, counterfactuals)
    )
    change, truth = (
        (drawn_image - left).reshape(len(left), -1),
        (right - left).reshape(len(left), -1),
    )
    lengths = np.linalg.norm(change, axis=1) * np.linalg.norm(truth, axis=1)
    smooth, smooth_truth = (_averaged(image - left) for image in (drawn_image, right))
    smooth_lengths = np.linalg.norm(smooth, axis=1) * np.linalg.norm(smooth_truth, axis=1)
    map_distance = np.linalg.norm(smooth - smooth_truth, axis=1)
    truly_changed = np.abs(right - left).max(3) > TRULY_CHANGED  # (P, S, S)
    brightest = maps.reshape(len(maps), -1).argmax(1)
    flat = truly_changed.reshape(len(truly_changed), -1)
    return {
        "change_explained": 1
        - np.abs(drawn_image - right).mean((1, 2, 3))
        / np.abs(left - right).mean((1, 2, 3)).clip(1e-9),
        "energy_explained": 1 - ((change - truth) ** 2).sum(1) / (truth**2).sum(1).clip(1e-9),
        "direction": (change * truth).sum(1) / lengths.clip(1e-9),
        "direction_averaged": (smooth * smooth_truth).sum(1) / smooth_lengths.clip(1e-9),
        "nearer": (map_distance < np.linalg.norm(smooth_truth, axis=1)).astype(np.float64),
        "map_auc": np.array(
            [
                metrics.auc(m.astype(np.float64), g.ravel())[0]
                for m, g in zip(flat, maps, strict=True)
            ]
        ),
        "pointing": flat[np.arange(len(flat)), brightest].astype(np.float64),
        "by_chance": flat.mean(1),
    }


def _averaged(changes: Floats) -> Floats:
    """(P, S * S * 3) signed changes (P, S, S, 3), each pixel the mean over a 32nd of the side."""
    width = max(changes.shape[1] // AVERAGED_PARTS, 1)
    averaged = np.stack([cv2.blur(change, (width, width)) for change in changes])
    return averaged.reshape(len(averaged), -1)


def _judge_columns(
    evaluator: JudgeEvaluator,
    pictures: tuple[U8, U8, U8],
    column: NDArray[np.intp],
    target_present: Floats,
    thresholds: Floats,
) -> dict[str, Floats]:
    """(P,) columns of the judge, which sees the face, the answer and the twin."""
    before, after_edit, truth = (
        evaluator.read(images)[0][:, : len(thresholds)] for images in pictures
    )
    index = np.arange(len(before))
    columns = {}
    for name, after in (("", after_edit), ("_in_twin", truth)):
        read = after[index, column]
        columns[f"judge_turns{name}"] = np.where(
            np.isfinite(read), (read >= thresholds[column]) == (target_present > 0.5), np.nan
        )
        changed = np.abs(after - before) > CHANGED
        changed[index, column] = False
        columns[f"labels_changed{name}"] = changed.sum(1).astype(np.float64)
    return columns
