"""Explaining in this process: explanations of affect.counterfactual, with readings in the fields of
the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.batches import numpy_rows
from affect.card import ModelCard
from affect.counterfactual import CounterfactualQuestion, Explanation, QuestionError, explain
from affect.counterfactual.question import Family
from affect.faces import Face
from affect.images import encode
from affect.inputs import InputPicture
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.local.reading import LocalReading, face_reading
from affect.marking import Claim, default_marker
from affect.model import AffectModel, Prediction
from affect.protocol.reading_warnings import limited_trust

U8 = NDArray[np.uint8]
TOGETHER = 8  # faces whose answers are searched at a time
FRAMES = 5  # on the way from a face to its counterfactual, as over HTTP


@dataclass(frozen=True, eq=False)
class LocalExplanation:
    """The explanation of one picture's face, or why there is none. All pictures are in the frame of
    the aligned crop.
    """

    input: str
    box: tuple[float, float, float, float] | None = None
    explanation: Explanation | None = None
    card: ModelCard | None = None
    source: bytes | None = None  # the file that shows the face
    error: str | None = None
    detail: str | None = None

    @property
    def factual(self) -> LocalReading:
        """What is read off the face."""
        return self._reading(self._answer.factual)

    @property
    def counterfactual(self) -> LocalReading:
        """What is read off the changed face."""
        return self._reading(self._answer.counterfactual_read)

    def save(self, stem: str | Path) -> list[Path]:
        """Write STEM-counterfactual.png, STEM-map.png and STEM-signed.png; returns their paths."""
        assert self.card is not None
        answer = self._answer
        claim = Claim.of(self.card, "edited")
        encoded = default_marker().encode(answer.counterfactual, claim, source=self.source)
        pictures = {
            "counterfactual": encoded,
            "map": encode(answer.map),
            "signed": encode(answer.signed),
        }
        paths = [Path(f"{stem}-{name}.png") for name in pictures]
        for path, content in zip(paths, pictures.values(), strict=True):
            path.write_bytes(content)
        return paths

    @property
    def _answer(self) -> Explanation:
        if self.explanation is None:
            raise ValueError(f"{self.input} has no explanation: {self.detail}")
        return self.explanation

    def _reading(self, prediction: Prediction) -> LocalReading:
        assert self.card is not None
        picture = InputPicture(self.input, self._answer.counterfactual)
        return face_reading(picture, 0, None, self.card, numpy_rows(prediction, 1), 0)


def parse_question(
    question: Mapping[str, Any], family: Family, answers: int
) -> CounterfactualQuestion:
    """The question of {"au": "AU12", "present": False}, {"valence": 0.5}, {"arousal": -0.2} or {}.

    Raises ValueError.
    """
    unknown = sorted(set(question) - {"au", "present", *DIMENSIONS})
    labels = [name for name in ("au", *DIMENSIONS) if question.get(name) is not None]
    if unknown:
        raise ValueError(
            f"question.{unknown[0]} is no field; there are au, present, {', '.join(DIMENSIONS)}"
        )
    if len(labels) > 1:
        raise ValueError(f"question asks about {' and '.join(labels)}; ask about one of them")
    present = question.get("present")
    if labels in ([], ["au"]):
        if present is not None and not labels:
            raise ValueError("question.present needs an au")
        target = None if present is None else float(present)
        return CounterfactualQuestion(question.get("au"), target, family, answers)
    return CounterfactualQuestion(labels[0], float(question[labels[0]]), family, answers)


def explain_crops(
    model: AffectModel,
    judge: Judge | None,
    picture_crops: Sequence[tuple[InputPicture, tuple[Face | None, U8] | LocalReading]],
    question: CounterfactualQuestion,
    integrated_gradients: bool,
) -> list[LocalExplanation]:
    """The same question about the face of each picture."""
    valid = [
        index for index, (_, one) in enumerate(picture_crops) if not isinstance(one, LocalReading)
    ]
    crops = {
        index: one[1]
        for index in valid
        if not isinstance(one := picture_crops[index][1], LocalReading)
    }
    answers: dict[int, Explanation | QuestionError] = {}
    for start in range(0, len(valid), TOGETHER):
        part = valid[start : start + TOGETHER]
        images = np.stack([crops[index] for index in part])
        answers_by_row = explain(
            model,
            images,
            [question] * len(part),
            frames=FRAMES,
            integrated_gradients=integrated_gradients,
            judge=judge,
        )
        answers |= dict(zip(part, answers_by_row, strict=True))
    return [
        _entry(picture, one, answers.get(index), model.card)
        for index, (picture, one) in enumerate(picture_crops)
    ]


def _entry(
    picture: InputPicture,
    crop: tuple[Face | None, U8] | LocalReading,
    answer: Explanation | QuestionError | None,
    card: ModelCard,
) -> LocalExplanation:
    name = picture.name
    if isinstance(crop, LocalReading):
        return LocalExplanation(name, error=crop.error, detail=crop.detail)
    box = crop[0].box if crop[0] else None
    if isinstance(answer, QuestionError):
        return LocalExplanation(name, box, error=answer.code, detail=answer.detail)
    limited = answer and _with_limited_trust(card, crop[0], answer)
    return LocalExplanation(name, box, limited, card, picture.provenance())


def _with_limited_trust(card: ModelCard, face: Face | None, answer: Explanation) -> Explanation:
    """The answer and its others, with less trust where the finder reports a defect of the face."""
    level, reasons = limited_trust(card, face, answer.trust, answer.reasons)
    alternatives = tuple(_with_limited_trust(card, face, one) for one in answer.alternatives)
    return replace(answer, trust=level, reasons=reasons, alternatives=alternatives)
