"""Dataclasses whose fields are arrays or tensors of N rows: some of the rows, or several together.

A field may also be a tuple or dictionary of such arrays, such a dataclass itself, or None.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def take_rows(data: T, rows: Any) -> T:
    """The rows `rows` (a slice, indices or a mask) of every field, in that order."""
    selected: T = _every(lambda parts: parts[0][rows], [data])
    return selected


def join_rows(data: Sequence[T], join: Callable[[list[Any]], Any]) -> T:
    """The rows of all of `data`, one after the other; `join` is np.concatenate or torch.cat."""
    joined: T = _every(join, data)
    return joined


def _every(function: Callable[[list[Any]], Any], parts: Sequence[Any]) -> Any:
    """`function` of the arrays in the same place of all parts, in the structure of the first."""
    first = parts[0]
    if first is None:
        return None
    if is_dataclass(first) and not isinstance(first, type):
        fields_by_name = {
            field.name: _every(function, [getattr(part, field.name) for part in parts])
            for field in fields(first)
        }
        return type(first)(**fields_by_name)
    if isinstance(first, tuple):
        return tuple(_every(function, column) for column in zip(*parts, strict=True))
    if isinstance(first, dict):
        return {name: _every(function, [part[name] for part in parts]) for name in first}
    return function(list(parts))
