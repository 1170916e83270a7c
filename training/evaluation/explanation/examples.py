"""Example explanations for people: before, redrawn, after, where, in words, and how far to trust
it. Half are failures.

Shape letters: N answers, S side in px.
"""

import textwrap
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from affect.counterfactual import Explanation
from affect.counterfactual.trust import NO_JUDGE
from training.evaluation.core.predictions import U8, Floats
from training.evaluation.explanation.questions import AnsweredQuestions

GOOD, FAILED = 10, 10
TILE_PX, LETTERS, TEXT_PX = 112, 74, 13  # of the sheet
CAPTIONS = ("face", "redrawn", "counterfactual", "what changed", "where")


@dataclass(frozen=True)
class ExplanationExample:
    """One example explanation."""

    pictures: U8  # (5, S, S, 3) in the order of CAPTIONS
    sentence: str
    trust: str
    reasons: tuple[str, ...]
    verdict: str  # what the independent judge says
    failed: bool


def choose(questions: AnsweredQuestions, columns: dict[str, Floats]) -> list[ExplanationExample]:
    """Ten without faults, in order, and the ten worst: invalid, then not confirmed by the judge,
    then of low trust.
    """
    faults = [
        _fault(one, columns["agreement"][i], columns["moved"][i])
        for i, one in enumerate(questions.answers)
    ]
    order = np.argsort(-np.array(faults), kind="stable")
    failed = [int(i) for i in order if faults[i] > 0][:FAILED]
    faultless = [i for i, fault in enumerate(faults) if fault == 0][:GOOD]
    return [_example(questions, i, columns, faults[i] > 0) for i in faultless + failed]


def as_sheet(examples: list[ExplanationExample]) -> U8:
    """(H, W, 3) one picture of them all, with words."""
    if not examples:
        return np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    font = ImageFont.load_default(TEXT_PX)
    rows = [_row(one, font) for one in examples]
    return np.concatenate(rows)


def _fault(answer: Explanation, agreement: float, change: float) -> float:
    """0 where nothing is wrong; the larger the worse."""
    if not answer.valid:
        return 4.0
    if change == 0:
        return 3.0
    if agreement == 0:
        return 2.0
    return 1.0 if answer.trust == "low" else 0.0


def _example(
    questions: AnsweredQuestions, i: int, columns: dict[str, Floats], failed: bool
) -> ExplanationExample:
    one = questions.answers[i]
    grey = np.repeat(one.map[..., None], 3, axis=2)
    pictures = np.stack(
        [questions.faces.images[i], one.reconstruction, one.counterfactual, one.signed, grey]
    )
    # here the judge grades afterwards: see the verdict
    reasons = tuple(reason for reason in one.reasons if reason != NO_JUDGE)
    return ExplanationExample(
        pictures,
        one.sentence,
        one.trust,
        reasons,
        _verdict(columns["agreement"][i], columns["moved"][i]),
        failed,
    )


def _verdict(agreement: float, change: float) -> str:
    if np.isnan(change):
        return "not put to the judge: the answer is not valid"
    if change == 0:
        return "the judge sees it move the other way"
    if agreement == 1:
        return "the judge agrees"
    return "the judge sees it move that way, but " + (
        "had not seen it so before" if np.isnan(agreement) else "not turn"
    )


def _row(example: ExplanationExample, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> U8:
    tiles = [
        cv2.resize(picture, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
        for picture in example.pictures
    ]
    strip = np.concatenate(tiles, axis=1)
    canvas = Image.new(
        "RGB", (LETTERS * 7, TILE_PX), (255, 255, 255) if not example.failed else (255, 246, 236)
    )
    lines = textwrap.wrap(example.sentence, LETTERS) + textwrap.wrap(
        f"Trust {example.trust}: {'; '.join(example.reasons)}.", LETTERS
    )
    lines += textwrap.wrap(f"{example.verdict.capitalize()}.", LETTERS)
    draw = ImageDraw.Draw(canvas)
    for line, text in enumerate(lines[:7]):
        draw.text((8, 4 + line * 15), text, fill=(31, 41, 51), font=font)
    return np.concatenate([strip, np.asarray(canvas)], axis=1)
