"""Dataclasses of tensors to safetensors bytes and back, both ways checked against the model's card.
A message's fields are declared with `tensor("N S S 3", np.uint8)`: letters that the card fixes (S,
K, K+2) must be its sizes, free letters (N, R, F) must agree within the message. The header's
metadata names the message, the format's version and the digest of the model it was written for;
what is no tensor travels there as JSON, under the name "words".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from affect.card import ModelCard

FORMAT = "1"
MAX_ROWS = 1024  # more in one request would keep every other client waiting


class ProtocolError(ValueError):
    """Bytes that are not the expected message, or do not fit the model.

    Names field, value and remedy.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} is {value!r}; {remedy}")
        self.field, self.value, self.remedy = field, value, remedy


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[str, ...]
    dtype: np.dtype[Any]


def tensor(shape: str, dtype: type[np.generic]) -> Any:
    """A field that is a tensor of this shape, in letters, and type."""
    return field(metadata={"tensor": _Tensor(tuple(shape.split()), np.dtype(dtype))})


def group(kind: type[Any]) -> Any:
    """A field that is a dataclass of tensors; in the file they are named "field.tensor"."""
    return field(metadata={"group": kind})


@dataclass(frozen=True, eq=False)
class Message:
    """Base of every request and response."""

    kind: ClassVar[str] = ""

    def to_bytes(self, card: ModelCard) -> bytes:
        """Bytes for the model of this card. Raises ProtocolError when a field does not fit it."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in _flatten(self).items()}
        _check(type(self), tensors, _sides(card))
        header = {
            "message": self.kind,
            "format": FORMAT,
            "digest": card.digest,
            "words": orjson.dumps(self._metadata()).decode(),
        }
        return save(tensors, header)

    @classmethod
    def from_bytes(cls, content: bytes | bytearray, card: ModelCard) -> Self:
        """The message in these bytes.

        Raises ProtocolError when it is none, or is for another model.
        """
        header, tensors = _unpack(bytes(content))
        for name, expected in (("message", cls.kind), ("format", FORMAT), ("digest", card.digest)):
            if header.get(name) != expected:
                raise ProtocolError(
                    name,
                    header.get(name),
                    f"this side expects {expected!r}: both must serve the same archive",
                )
        sides = _sides(card)
        tensors = _with_absent(cls, tensors, sides)
        _check(cls, tensors, sides)
        return cls._from_metadata(
            arguments_from_tensors(cls, tensors), orjson.loads(header["words"])
        )

    def _metadata(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _from_metadata(cls, arguments: dict[str, Any], metadata: Mapping[str, Any]) -> Self:
        return cls(**arguments)


def tensors_of(kind: type[Any]) -> Mapping[str, _Tensor]:
    """Every tensor of a message by its name in the file; those of a group are "group.name"."""
    return _tensors_of(kind)  # type: ignore[arg-type]  # a type can be hashed


@cache
def _tensors_of(kind: type[Any]) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    for part in fields(kind):
        if "tensor" in part.metadata:
            tensors[part.name] = part.metadata["tensor"]
        if "group" in part.metadata:
            tensors |= {
                f"{part.name}.{name}": spec
                for name, spec in tensors_of(part.metadata["group"]).items()
            }
    return tensors


def _flatten(message: Message) -> dict[str, NDArray[Any]]:
    tensors = {}
    for name in tensors_of(type(message)):
        value: Any = message
        for step in name.split("."):
            value = getattr(value, step)
        tensors[name] = value
    return tensors


def zero_tensors(kind: type[Any], card: ModelCard, **free: int) -> dict[str, NDArray[Any]]:
    """Every tensor of a message by its name in the file, zero.

    `free` gives the letters that the card does not fix.
    """
    sides = _sides(card) | free
    return {
        name: np.zeros([sides[letter] for letter in spec.shape], spec.dtype)
        for name, spec in tensors_of(kind).items()
    }


def arguments_from_tensors(
    kind: type[Any], tensors: Mapping[str, NDArray[Any]], prefix: str = ""
) -> dict[str, Any]:
    """The arguments of a message from its tensors by their names in the file."""
    arguments: dict[str, Any] = {}
    for part in fields(kind):
        if "tensor" in part.metadata:
            arguments[part.name] = tensors[prefix + part.name]
        if "group" in part.metadata:
            group = part.metadata["group"]
            arguments[part.name] = group(
                **arguments_from_tensors(group, tensors, f"{prefix}{part.name}.")
            )
    return arguments


def _check(kind: type[Message], tensors: Mapping[str, NDArray[Any]], sides: dict[str, int]) -> None:
    """Check names, types and shapes against the message's fields and the card's sizes.

    Letters that the card does not fix must agree; they are added to `sides`.
    """
    expected = tensors_of(kind)
    if tensors.keys() != expected.keys():
        raise ProtocolError(
            "tensors", sorted(tensors), f"a {kind.kind} has {', '.join(sorted(expected))}"
        )
    for name, spec in expected.items():
        tensor = tensors[name]
        if tensor.dtype != spec.dtype:
            raise ProtocolError(name, str(tensor.dtype), f"give {spec.dtype}")
        expected_shape = tuple(map(sides.setdefault, spec.shape, tensor.shape))
        if tensor.shape != expected_shape or len(tensor.shape) != len(spec.shape):
            sizes = ", ".join(
                f"{letter} = {side}" for letter, side in sides.items() if letter.isalpha()
            )
            raise ProtocolError(
                name, tensor.shape, f"its shape is ({' '.join(spec.shape)}) with {sizes}"
            )
    if not 0 < sides["N"] <= MAX_ROWS:
        raise ProtocolError("rows", sides["N"], f"give 1 to {MAX_ROWS} rows")


def _with_absent(
    kind: type[Any], tensors: dict[str, NDArray[Any]], sides: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    """What the card's model does not read may be absent: older archives do not write it."""
    if tensors.keys() == tensors_of(kind).keys():
        return tensors
    rows = len(next(iter(tensors.values()), ()))
    absent = {
        name: np.zeros([sides.get(letter, rows) for letter in spec.shape], spec.dtype)
        for name, spec in tensors_of(kind).items()
        if name not in tensors and not all(sides.get(letter, 1) for letter in spec.shape)
    }
    return tensors | absent


def _sides(card: ModelCard) -> dict[str, int]:
    k = len(card.vocabulary)
    return {
        "S": card.image_px,
        "K": k,
        "K+2": k + 2,
        "2": 2,
        "3": 3,
        "E": len(card.expressions),
        "P": 3 if card.pose else 0,
        "D": len(card.one_sided),
    }


def _unpack(content: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors of safetensors bytes; the library's loader drops the metadata."""
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata: dict[str, str] = orjson.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise ProtocolError(
            "content", f"{len(content)} bytes", f"send safetensors: {error}"
        ) from error
    return metadata, tensors
