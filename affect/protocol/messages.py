"""What gateway and handlers send each other: one request per request of a client, its rows answered
or refused one by one.

Every message has `to_bytes(card)` and `from_bytes(content, card)` (affect.protocol.tensor_codec).
Shape letters: N rows, R references, S image side in px, K Action Units, F frames. Crops are RGB.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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
# What an explanation may change.
FAMILIES: tuple[Literal["expression"], Literal["nuisance"]] = ("expression", "nuisance")
# Names that archives of 1.0 use, where they differ from the attribute's.
STORED_NAMES = {"judge_agreement": "opinion"}

U8: TypeAlias = NDArray[np.uint8]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
F32: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class RowError:
    """Why one row has no answer.

    A stable code, a title that is the same for every such row, and the detail.
    """

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


@dataclass(frozen=True)
class WorkReport:
    """When a worker did a request, in seconds since 1970, and in which batch.

    `traces` are the traceparents of the requests in the batch, its own among them, as far as they
    have one.
    """

    start_seconds: float
    end_seconds: float
    batch_jobs: int
    batch_rows: int
    traces: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class WorkerRequest(Message):
    """Base. `traceparent` (W3C Trace Context) says to which request of a client it belongs."""

    traceparent: str = field(default="", kw_only=True)

    def __len__(self) -> int:
        first = next(iter(tensors_of(type(self))))  # which has a row for each of its rows
        return len(getattr(self, first))

    def _metadata(self) -> dict[str, Any]:
        return {"traceparent": self.traceparent} if self.traceparent else {}

    @classmethod
    def _from_metadata(cls, arguments: dict[str, Any], metadata: Mapping[str, Any]) -> Self:
        return cls(**arguments, traceparent=metadata.get("traceparent", ""))


@dataclass(frozen=True, eq=False)
class WorkerResponse(Message):
    """Base. The tensors of a row with an error mean nothing; `work` is the worker's report."""

    errors: dict[int, RowError] = field(default_factory=dict, kw_only=True)
    work: WorkReport | None = field(default=None, kw_only=True)

    def _metadata(self) -> dict[str, Any]:
        work = {"work": asdict(self.work)} if self.work else {}
        return {"errors": {str(row): asdict(error) for row, error in self.errors.items()}, **work}

    @classmethod
    def _from_metadata(cls, arguments: dict[str, Any], metadata: Mapping[str, Any]) -> Self:
        errors = {int(row): RowError(**error) for row, error in metadata["errors"].items()}
        work = metadata.get("work")
        report = work and WorkReport(**work | {"traces": tuple(work["traces"])})
        return cls(**arguments, errors=errors, work=report)


@dataclass(frozen=True, eq=False)
class PredictRequest(WorkerRequest):
    """Read N aligned faces."""

    kind: ClassVar[str] = "predict request"
    crops: U8 = tensor("N S S 3", np.uint8)


@dataclass(frozen=True, eq=False)
class PredictResponse(WorkerResponse):
    """The readings."""

    kind: ClassVar[str] = "predict answer"
    read: Predictions = group(Predictions)


@dataclass(frozen=True, eq=False)
class GenerateRequest(WorkerRequest):
    """Draw N faces: labels with NaN where nothing is wanted, seeds, and crops of people to keep."""

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
    """The pictures, the complete labels they were drawn for, and what is read off each picture."""

    kind: ClassVar[str] = "generate answer"
    images: U8 = tensor("N S S 3", np.uint8)
    requested: F32 = tensor("N K+2", np.float32)  # NaN: this model did not learn the label
    measured: Predictions = group(Predictions)


@dataclass(frozen=True, eq=False)
class ExplainRequest(WorkerRequest):
    """Question N aligned faces: "what would have to change for `label` to be `target`?" """

    kind: ClassVar[str] = "explain request"
    crops: U8 = tensor("N S S 3", np.uint8)
    label: I32 = tensor("N", np.int32)  # column of a label row, or ANY_LABEL
    # AU: 1 present, 0 absent; valence, arousal: the wanted value; NaN: the other side
    target: F32 = tensor("N", np.float32)
    gradients: U8 = tensor("N", np.uint8)  # 1: Integrated Gradients too
    family: U8 = tensor("N", np.uint8)  # what may be changed, an index into FAMILIES
    # 0: the least change; 1, 2, ...: another answer to the question of the row before
    answer: U8 = tensor("N", np.uint8)

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
                "Answer without its question",
                f"answer {self.answer[row]} does not follow the one before it",
            )
        return (
            None if label == ANY_LABEL or np.isnan(target) else _label_fault({names[label]: target})
        )


@dataclass(frozen=True)
class ExplanationDetails:
    """The part of one explanation that is text and named numbers.

    `changes` are (label, from, to), `causes` what was moved in the same form; `regions` the share
    of the change in each region of the face; `attribution` how far each AU (or nuisance) alone
    moves the decision; `gradients` the signed share of Integrated Gradients in each region, when
    they were wanted; `judge_agreement` the independent judge's reading of the questioned label
    before and after, and whether it agrees.
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
    judge_agreement: tuple[float, float, bool] | None = None

    def to_json(self) -> dict[str, Any]:
        """Under the stored names."""
        return {STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote."""
        values = {name: stored[STORED_NAMES.get(name, name)] for name in _names(cls)}
        for name in ("changes", "causes"):
            values[name] = tuple((str(a), float(b), float(c)) for a, b, c in values[name])
        values["reasons"] = tuple(values["reasons"])
        values["judge_agreement"] = values["judge_agreement"] and tuple(values["judge_agreement"])
        return cls(**values)


@dataclass(frozen=True, eq=False)
class ExplainResponse(WorkerResponse):
    """The resolved question, and the explanation.

    All pictures are in the frame of the crop.
    """

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
    gradients: U8 = tensor("N S S 3", np.uint8)  # for people's eyes; 0 where not wanted
    details: tuple[ExplanationDetails | None, ...] = ()  # None in a row with an error

    def _metadata(self) -> dict[str, Any]:
        rows = [details and details.to_json() for details in self.details]
        return super()._metadata() | {"words": rows}

    @classmethod
    def _from_metadata(cls, arguments: dict[str, Any], metadata: Mapping[str, Any]) -> Self:
        rows = metadata["words"]
        if len(rows) != len(arguments["label"]):
            raise ProtocolError(
                "words", len(rows), f"one entry for each of {len(arguments['label'])} rows"
            )
        details = tuple(row and ExplanationDetails.from_json(row) for row in rows)
        return super()._from_metadata(arguments | {"details": details}, metadata)


def _names(kind: type[Any]) -> list[str]:
    return [part.name for part in fields(kind)]


def _label_fault(labels: Mapping[str, float]) -> RowError | None:
    try:
        for name, value in labels.items():
            check(name, value)
    except LabelError as error:
        return RowError("label_out_of_range", "Label out of range", str(error))
    return None
