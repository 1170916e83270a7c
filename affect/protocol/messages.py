"""What gateway and handlers say to each other: one job per client request, its rows answered or refused one by one.

Every message has `to_bytes(card)` and `from_bytes(content, card)` (affect.protocol.tensor_codec).
Shape letters: N rows, R references, S image side in px, K Action Units, F frames. Crops are RGB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.labels import LabelError, check
from affect.protocol.tensor_codec import Message, group, tensor, tensors_of
from affect.protocol.tensor_codec import ProtocolError as ProtocolError

MEDIA_TYPE = "application/octet-stream"
ANY_LABEL = -1  # ExplainRequest.label: the strongest decision about the face is questioned
NO_REFERENCE = -1
FAMILIES: tuple[Literal["expression"], Literal["nuisance"]] = (
    "expression",
    "nuisance",
)  # what an explanation may change

U8: TypeAlias = NDArray[np.uint8]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
F32: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class RowError:
    """Why one row has no answer: a stable code, a title that is the same for every such row, and the detail."""

    code: str
    title: str
    detail: str


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model reads off N faces."""

    intensity: F32 = tensor("N K", np.float32)  # in [0, 1]
    probability: F32 = tensor("N K", np.float32)  # calibrated, that the AU is present
    present: U8 = tensor("N K", np.uint8)  # 0 or 1
    va: F32 = tensor("N 2", np.float32)  # in [-1, 1]
    # in [0, 1]: share of real faces that look at least as strange
    realism: F32 = tensor("N", np.float32)
    expression: F32 = tensor("N E", np.float32)  # probabilities of the card's expressions
    pose: F32 = tensor("N P", np.float32)  # degrees: yaw, pitch, roll; P is 0 where not learnt
    # intensities of the card's one-sided AUs on the person's left, then right
    sides: F32 = tensor("N 2 D", np.float32)

    def __len__(self) -> int:
        return len(self.realism)

    def of(self, rows: Sequence[int]) -> "Predictions":
        """These rows of every field."""
        return Predictions(
            **{name: getattr(self, name)[list(rows)] for name in tensors_of(Predictions)}
        )

    def rows(self, start: int, stop: int) -> "Predictions":
        """Rows start..stop of every field."""
        return Predictions(
            **{name: getattr(self, name)[start:stop] for name in tensors_of(Predictions)}
        )


@dataclass(frozen=True)
class WorkReport:
    """How a job was done, as its worker tells: when, in seconds since 1970, and in what company. `traces` are the traceparents of
    the jobs in the same batch, its own among them, as far as they have one."""

    start_seconds: float
    end_seconds: float
    batch_jobs: int
    batch_rows: int
    traces: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class WorkerRequest(Message):
    """Base of the requests. `traceparent` (W3C Trace Context) says to which request of a client it belongs."""

    traceparent: str = field(default="", kw_only=True)

    def __len__(self) -> int:
        return len(
            getattr(self, next(iter(tensors_of(type(self)))))
        )  # every job's first tensor has a row for each of its rows

    def _words(self) -> dict[str, Any]:
        return {"traceparent": self.traceparent} if self.traceparent else {}

    @classmethod
    def _from_words(cls, arguments: dict[str, Any], words: Mapping[str, Any]) -> Self:
        return cls(**arguments, traceparent=words.get("traceparent", ""))


@dataclass(frozen=True, eq=False)
class WorkerResponse(Message):
    """Base of the answers. A row with an error has tensors that mean nothing. `work` is None when no worker did it."""

    errors: dict[int, RowError] = field(default_factory=dict, kw_only=True)
    work: WorkReport | None = field(default=None, kw_only=True)

    def _words(self) -> dict[str, Any]:
        work = {"work": asdict(self.work)} if self.work else {}
        return {"errors": {str(row): asdict(error) for row, error in self.errors.items()}, **work}

    @classmethod
    def _from_words(cls, arguments: dict[str, Any], words: Mapping[str, Any]) -> Self:
        errors = {int(row): RowError(**error) for row, error in words["errors"].items()}
        work = (
            WorkReport(**words["work"] | {"traces": tuple(words["work"]["traces"])})
            if "work" in words
            else None
        )
        return cls(**arguments, errors=errors, work=work)


@dataclass(frozen=True, eq=False)
class PredictRequest(WorkerRequest):
    """Read N aligned faces."""

    kind: ClassVar[str] = "predict request"
    crops: U8 = tensor("N S S 3", np.uint8)


@dataclass(frozen=True, eq=False)
class PredictResponse(WorkerResponse):
    """What was read."""

    kind: ClassVar[str] = "predict answer"
    read: Predictions = group(Predictions)


@dataclass(frozen=True, eq=False)
class GenerateRequest(WorkerRequest):
    """Draw N faces: label rows with NaN where nothing is asked, seeds, and for each the crop of the person to keep."""

    kind: ClassVar[str] = "generate request"
    labels: F32 = tensor("N K+2", np.float32)
    seeds: I64 = tensor("N", np.int64)
    references: U8 = tensor("R S S 3", np.uint8)
    reference_of: I32 = tensor("N", np.int32)  # row of `references`, or NO_REFERENCE

    def faults(self, card: ModelCard) -> dict[int, RowError]:
        """Rows that cannot be drawn."""
        return {row: fault for row in range(len(self)) if (fault := self._fault(row, card))}

    def _fault(self, row: int, card: ModelCard) -> RowError | None:
        reference = int(self.reference_of[row])
        if not NO_REFERENCE <= reference < len(self.references):
            return RowError(
                "unknown_reference",
                "No such reference",
                f"reference {reference} of {len(self.references)}",
            )
        return _label_fault(card.labels_of.named(self.labels[row]))


@dataclass(frozen=True, eq=False)
class GenerateResponse(WorkerResponse):
    """The pictures, the complete states that were asked of the model, and what the predictor reads off each picture."""

    kind: ClassVar[str] = "generate answer"
    images: U8 = tensor("N S S 3", np.uint8)
    requested: F32 = tensor("N K+2", np.float32)  # NaN: this model does not know the label
    measured: Predictions = group(Predictions)


@dataclass(frozen=True, eq=False)
class ExplainRequest(WorkerRequest):
    """Question N aligned faces: "what would have to change for `label` to be `target`?" """

    kind: ClassVar[str] = "explain request"
    crops: U8 = tensor("N S S 3", np.uint8)
    label: I32 = tensor("N", np.int32)  # column of a label row, or ANY_LABEL
    target: F32 = tensor(
        "N", np.float32
    )  # AU: 1 present, 0 absent; valence, arousal: the wanted value; NaN: the other side
    gradients: U8 = tensor("N", np.uint8)  # 1: Integrated Gradients too
    family: U8 = tensor("N", np.uint8)  # what may be changed, a place in FAMILIES
    answer: U8 = tensor(
        "N", np.uint8
    )  # 0: the least change; 1, 2, ...: another answer to the question of the row before

    @classmethod
    def of(
        cls,
        crops: U8,
        label: int,
        target: float,
        *,
        gradients: bool = False,
        family: str = "expression",
        answers: int = 1,
    ) -> Self:
        """The same question about every crop, with a row for each of its answers."""
        count = len(crops) * answers
        return cls(
            np.repeat(crops, answers, axis=0),
            np.full(count, label, np.int32),
            np.full(count, target, np.float32),
            np.full(count, gradients, np.uint8),
            np.full(count, FAMILIES.index(family), np.uint8),
            np.tile(np.arange(answers, dtype=np.uint8), len(crops)),
        )

    def faults(self, card: ModelCard) -> dict[int, RowError]:
        """Rows whose question makes no sense for any face."""
        return {row: fault for row in range(len(self)) if (fault := self._fault(row, card))}

    def _fault(self, row: int, card: ModelCard) -> RowError | None:
        names, label, target = (card.labels_of.names, int(self.label[row]), float(self.target[row]))
        if not ANY_LABEL <= label < len(names):
            return RowError(
                "unknown_label", "No such label", f"label {label}; this model has {len(names)}"
            )
        if self.family[row] >= len(FAMILIES):
            return RowError(
                "unknown_family",
                "No such family",
                f"family {self.family[row]}; there are {len(FAMILIES)}",
            )
        if self.answer[row] and (not row or self.answer[row] != self.answer[row - 1] + 1):
            return RowError(
                "lone_answer",
                "WorkerResponse without its question",
                f"answer {self.answer[row]} does not follow the one before it",
            )
        return (
            None if label == ANY_LABEL or np.isnan(target) else _label_fault({names[label]: target})
        )


@dataclass(frozen=True)
class ExplanationDetails:
    """The part of one explanation that is words and named numbers.

    `changes` are (label, from, to), `causes` what was moved in the same form; `regions` the share of the change in each
    region of the face; `attribution` how far each AU (or nuisance) alone moves the decision; `gradients` the signed share of
    Integrated Gradients in each region, when they were asked for; `opinion` the independent judge's reading of the
    questioned label before and after, and whether it agrees.
    """

    changes: tuple[tuple[str, float, float], ...]
    causes: tuple[tuple[str, float, float], ...]
    regions: dict[str, float]
    attribution: dict[str, float]
    scores: dict[str, float]
    trust: str  # high, medium or low
    reasons: tuple[str, ...]
    sentence: str
    gradients: dict[str, float] | None = None
    opinion: tuple[float, float, bool] | None = None


@dataclass(frozen=True, eq=False)
class ExplainResponse(WorkerResponse):
    """The question as it was understood, and the explanation. All pictures are in the frame of the crop."""

    kind: ClassVar[str] = "explain answer"
    label: I32 = tensor("N", np.int32)
    target: F32 = tensor("N", np.float32)
    factual: Predictions = group(Predictions)
    reconstruction: U8 = tensor("N S S 3", np.uint8)
    reconstruction_read: Predictions = group(Predictions)
    reconstruction_error: F32 = tensor("N", np.float32)
    counterfactual: U8 = tensor("N S S 3", np.uint8)
    counterfactual_read: Predictions = group(Predictions)
    valid: U8 = tensor("N", np.uint8)  # 1: the counterfactual is read as was asked
    map: U8 = tensor("N S S", np.uint8)  # 0 where nothing changed
    signed: U8 = tensor("N S S 3", np.uint8)  # for people's eyes
    frames: U8 = tensor("N F S S 3", np.uint8)  # the way from the face to its counterfactual
    gradients: U8 = tensor(
        "N S S 3", np.uint8
    )  # Integrated Gradients for people's eyes; empty where they were not asked for
    words: tuple[ExplanationDetails | None, ...] = ()  # None in a row with an error

    def _words(self) -> dict[str, Any]:
        return super()._words() | {"words": [words and asdict(words) for words in self.words]}

    @classmethod
    def _from_words(cls, arguments: dict[str, Any], words: Mapping[str, Any]) -> Self:
        told = tuple(row and _explained(row) for row in words["words"])
        if len(told) != len(arguments["label"]):
            raise ProtocolError(
                "words", len(told), f"one entry for each of {len(arguments['label'])} rows"
            )
        return super()._from_words(arguments | {"words": told}, words)


def _explained(row: dict[str, Any]) -> ExplanationDetails:
    moved = {
        name: tuple((str(label), float(start), float(end)) for label, start, end in row[name])
        for name in ("changes", "causes")
    }
    opinion = row["opinion"] and tuple(row["opinion"])
    return ExplanationDetails(
        **row | moved | {"reasons": tuple(row["reasons"]), "opinion": opinion}
    )


def _label_fault(labels: Mapping[str, float]) -> RowError | None:
    try:
        for name, value in labels.items():
            check(name, value)
    except LabelError as error:
        return RowError("label_out_of_range", "Label out of range", str(error))
    return None
