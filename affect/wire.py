"""What gateway and handlers say to each other: one job per client request, as safetensors bytes. Writer and reader.

The header's metadata names the message, the wire's version and the digest of the model it was written for, and carries
the errors of single rows, so that one bad row never costs its neighbours.
Shape letters: N rows, R references, S image side in px, K Action Units, F frames. Crops are RGB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from affect.card import ModelCard
from affect.labels import LabelError, check

FORMAT = "1"
MEDIA_TYPE = "application/octet-stream"
MAX_ROWS = 1024  # more in one job would keep every other client waiting
ANY_LABEL = -1  # ExplainRequest.label: the strongest decision about the face is questioned
NO_REFERENCE = -1

U8, I32, I64, F32 = (
    NDArray[np.uint8],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.float32],
)


class WireError(ValueError):
    """Bytes that are not the expected message, or do not fit the model: names field, value and remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} is {value!r}; {remedy}")
        self.field, self.value, self.remedy = field, value, remedy


@dataclass(frozen=True)
class RowError:
    """Why one row has no answer: a stable code, a title that is the same for every such row, and the detail."""

    code: str
    title: str
    detail: str


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[str, ...]
    dtype: np.dtype[Any]


def _tensor(shape: str, dtype: type[np.generic]) -> Any:
    return field(metadata={"tensor": _Tensor(tuple(shape.split()), np.dtype(dtype))})


def _predictions() -> Any:
    return field(metadata={"group": Predictions})


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model reads off N faces."""

    intensity: F32 = _tensor("N K", np.float32)  # in [0, 1]
    probability: F32 = _tensor("N K", np.float32)  # calibrated, that the AU is present
    present: U8 = _tensor("N K", np.uint8)  # 0 or 1
    va: F32 = _tensor("N 2", np.float32)  # in [-1, 1]
    realism: F32 = _tensor("N", np.float32)  # in [0, 1]: share of real faces that look no more real

    def __len__(self) -> int:
        return len(self.realism)

    def rows(self, start: int, stop: int) -> "Predictions":
        """Rows start..stop of every field."""
        return Predictions(**{name: getattr(self, name)[start:stop] for name in _tensors_of(Predictions)})


@dataclass(frozen=True, eq=False)
class Message:
    """Base of every job and answer: bytes and back."""

    kind: ClassVar[str] = ""

    def to_bytes(self, card: ModelCard) -> bytes:
        """Bytes for the model of this card. Raises WireError when a field does not fit it."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in _flatten(self).items()}
        _fit(type(self), tensors, card)
        header = {
            "message": self.kind,
            "format": FORMAT,
            "digest": card.digest,
            "words": orjson.dumps(self._words()).decode(),
        }
        return save(tensors, header)

    @classmethod
    def from_bytes(cls, content: bytes | bytearray, card: ModelCard) -> Self:
        """The message in these bytes. Raises WireError when it is not one, or is for another model."""
        header, tensors = _unpack(bytes(content))
        for name, expected in (
            ("message", cls.kind),
            ("format", FORMAT),
            ("digest", card.digest),
        ):
            if header.get(name) != expected:
                raise WireError(
                    name,
                    header.get(name),
                    f"this side expects {expected!r}: both must serve the same archive",
                )
        _fit(cls, tensors, card)
        return cls._from_words(_build(cls, tensors), orjson.loads(header["words"]))

    def _words(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _from_words(cls, arguments: dict[str, Any], words: Mapping[str, Any]) -> Self:
        return cls(**arguments)


@dataclass(frozen=True, eq=False)
class Answer(Message):
    """Base of the answers. A row with an error has tensors that mean nothing."""

    errors: dict[int, RowError] = field(default_factory=dict, kw_only=True)

    def _words(self) -> dict[str, Any]:
        return {"errors": {str(row): asdict(error) for row, error in self.errors.items()}}

    @classmethod
    def _from_words(cls, arguments: dict[str, Any], words: Mapping[str, Any]) -> Self:
        errors = {int(row): RowError(**error) for row, error in words["errors"].items()}
        return cls(**arguments, errors=errors)


@dataclass(frozen=True, eq=False)
class PredictRequest(Message):
    """Read N aligned faces."""

    kind: ClassVar[str] = "predict request"
    crops: U8 = _tensor("N S S 3", np.uint8)

    def __len__(self) -> int:
        return len(self.crops)


@dataclass(frozen=True, eq=False)
class PredictAnswer(Answer):
    """What was read."""

    kind: ClassVar[str] = "predict answer"
    read: Predictions = _predictions()


@dataclass(frozen=True, eq=False)
class GenerateRequest(Message):
    """Draw N faces: label rows with NaN where nothing is asked, seeds, and for each the crop of the person to keep."""

    kind: ClassVar[str] = "generate request"
    labels: F32 = _tensor("N K+2", np.float32)
    seeds: I64 = _tensor("N", np.int64)
    references: U8 = _tensor("R S S 3", np.uint8)
    reference_of: I32 = _tensor("N", np.int32)  # row of `references`, or NO_REFERENCE

    def __len__(self) -> int:
        return len(self.labels)

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
class GenerateAnswer(Answer):
    """The pictures, the complete states that were asked of the model, and what the predictor reads off each picture."""

    kind: ClassVar[str] = "generate answer"
    images: U8 = _tensor("N S S 3", np.uint8)
    requested: F32 = _tensor("N K+2", np.float32)  # NaN: this model does not know the label
    measured: Predictions = _predictions()


@dataclass(frozen=True, eq=False)
class ExplainRequest(Message):
    """Question N aligned faces: "what would have to change for `label` to be `target`?" """

    kind: ClassVar[str] = "explain request"
    crops: U8 = _tensor("N S S 3", np.uint8)
    label: I32 = _tensor("N", np.int32)  # column of a label row, or ANY_LABEL
    target: F32 = _tensor("N", np.float32)  # AU: 1 present, 0 absent; valence, arousal: the wanted value; NaN: the other side

    def __len__(self) -> int:
        return len(self.crops)

    def faults(self, card: ModelCard) -> dict[int, RowError]:
        """Rows whose question makes no sense for any face."""
        return {row: fault for row in range(len(self)) if (fault := self._fault(row, card))}

    def _fault(self, row: int, card: ModelCard) -> RowError | None:
        names, label, target = (
            card.labels_of.names,
            int(self.label[row]),
            float(self.target[row]),
        )
        if not ANY_LABEL <= label < len(names):
            return RowError(
                "unknown_label",
                "No such label",
                f"label {label}; this model has {len(names)}",
            )
        return None if label == ANY_LABEL or np.isnan(target) else _label_fault({names[label]: target})


@dataclass(frozen=True)
class ExplainedWords:
    """The part of one explanation that is words and named numbers.

    `changes` are (label, from, to); `regions` the share of the change in each region of the face; `scores` by name.
    """

    changes: tuple[tuple[str, float, float], ...]
    regions: dict[str, float]
    scores: dict[str, float]
    trust: str  # high, medium or low
    reasons: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, eq=False)
class ExplainAnswer(Answer):
    """The question as it was understood, and the explanation. All pictures are in the frame of the crop."""

    kind: ClassVar[str] = "explain answer"
    label: I32 = _tensor("N", np.int32)
    target: F32 = _tensor("N", np.float32)
    factual: Predictions = _predictions()
    reconstruction: U8 = _tensor("N S S 3", np.uint8)
    reconstruction_read: Predictions = _predictions()
    reconstruction_error: F32 = _tensor("N", np.float32)
    counterfactual: U8 = _tensor("N S S 3", np.uint8)
    counterfactual_read: Predictions = _predictions()
    valid: U8 = _tensor("N", np.uint8)  # 1: the counterfactual is read as was asked
    map: U8 = _tensor("N S S", np.uint8)  # 0 where nothing changed
    signed: U8 = _tensor("N S S 3", np.uint8)  # for people's eyes
    frames: U8 = _tensor("N F S S 3", np.uint8)  # the way from the face to its counterfactual
    words: tuple[ExplainedWords | None, ...] = ()  # None in a row with an error

    def _words(self) -> dict[str, Any]:
        return super()._words() | {"words": [words and asdict(words) for words in self.words]}

    @classmethod
    def _from_words(cls, arguments: dict[str, Any], words: Mapping[str, Any]) -> Self:
        told = tuple(row and _explained(row) for row in words["words"])
        if len(told) != len(arguments["label"]):
            raise WireError(
                "words",
                len(told),
                f"one entry for each of {len(arguments['label'])} rows",
            )
        return super()._from_words(arguments | {"words": told}, words)


def _explained(row: dict[str, Any]) -> ExplainedWords:
    changes = tuple((str(label), float(start), float(end)) for label, start, end in row["changes"])
    return ExplainedWords(**row | {"changes": changes, "reasons": tuple(row["reasons"])})


def _label_fault(labels: Mapping[str, float]) -> RowError | None:
    try:
        for name, value in labels.items():
            check(name, value)
    except LabelError as error:
        return RowError("label_out_of_range", "Label out of range", str(error))
    return None


def _tensors_of(kind: type[Any]) -> dict[str, _Tensor]:
    """Every tensor of a message by its name in the file; those of a group are "group.name"."""
    found: dict[str, _Tensor] = {}
    for part in fields(kind):
        if "tensor" in part.metadata:
            found[part.name] = part.metadata["tensor"]
        if "group" in part.metadata:
            found |= {f"{part.name}.{name}": spec for name, spec in _tensors_of(part.metadata["group"]).items()}
    return found


def _flatten(message: Message) -> dict[str, NDArray[Any]]:
    tensors = {}
    for name in _tensors_of(type(message)):
        value: Any = message
        for step in name.split("."):
            value = getattr(value, step)
        tensors[name] = value
    return tensors


def _build(kind: type[Any], tensors: Mapping[str, NDArray[Any]], prefix: str = "") -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for part in fields(kind):
        if "tensor" in part.metadata:
            arguments[part.name] = tensors[prefix + part.name]
        if "group" in part.metadata:
            group = part.metadata["group"]
            arguments[part.name] = group(**_build(group, tensors, f"{prefix}{part.name}."))
    return arguments


def _fit(kind: type[Message], tensors: Mapping[str, NDArray[Any]], card: ModelCard) -> None:
    """Hold names, types and shapes against the message's fields and the card; letters free of the card must agree."""
    expected = _tensors_of(kind)
    if set(tensors) != set(expected):
        raise WireError(
            "tensors",
            sorted(tensors),
            f"a {kind.kind} has {', '.join(sorted(expected))}",
        )
    k = len(card.vocabulary)
    sides = {"S": card.image_px, "K": k, "K+2": k + 2, "2": 2, "3": 3}
    for name, spec in expected.items():
        tensor = tensors[name]
        if tensor.dtype != spec.dtype:
            raise WireError(name, str(tensor.dtype), f"give {spec.dtype}")
        if len(tensor.shape) != len(spec.shape) or any(
            side != sides.setdefault(letter, side) for letter, side in zip(spec.shape, tensor.shape, strict=True)
        ):
            known = ", ".join(f"{letter} = {side}" for letter, side in sides.items() if letter.isalpha())
            raise WireError(
                name,
                tensor.shape,
                f"its shape is ({' '.join(spec.shape)}) with {known}",
            )
    if not 0 < sides["N"] <= MAX_ROWS:
        raise WireError("rows", sides["N"], f"give 1 to {MAX_ROWS} rows")


def _unpack(content: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors of safetensors bytes; the library's loader drops the metadata."""
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata: dict[str, str] = orjson.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise WireError("content", f"{len(content)} bytes", f"send safetensors: {error}") from error
    return metadata, tensors


def concatenate(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows of several jobs as one array; one job's array is passed through without a copy."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
