"""Rows of dataclasses are taken and joined field by field, whatever the fields hold."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affect.rows import join_rows, take_rows


@dataclass(frozen=True)
class Inner:
    values: NDArray[np.int64]


@dataclass(frozen=True)
class Outer:
    numbers: NDArray[np.float64]
    levels: tuple[NDArray[np.int64], ...]
    named: dict[str, NDArray[np.int64]]
    inner: Inner
    missing: NDArray[np.int64] | None = None


def outer(first: int) -> Outer:
    rows = np.arange(first, first + 3)
    return Outer(rows / 2, (rows, rows * 10), {"a": rows}, Inner(rows))


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([1, 2]), np.array([False, True, True])])
def test_rows_are_taken_from_every_field(rows: slice | NDArray[np.int64]) -> None:
    some = take_rows(outer(0), rows)
    assert some.numbers.tolist() == [0.5, 1.0]
    assert [level.tolist() for level in some.levels] == [[1, 2], [10, 20]]
    assert some.named["a"].tolist() == some.inner.values.tolist() == [1, 2]
    assert some.missing is None


def test_rows_taken_in_another_order_come_in_that_order() -> None:
    assert take_rows(outer(0), np.array([2, 0])).inner.values.tolist() == [2, 0]


def test_joined_parts_taken_apart_are_the_parts() -> None:
    both = join_rows([outer(0), outer(10)], np.concatenate)
    assert both.levels[1].tolist() == [0, 10, 20, 100, 110, 120]
    assert take_rows(both, slice(3, 6)).named["a"].tolist() == outer(10).named["a"].tolist()


def test_tensors_are_joined_as_tensors() -> None:
    @dataclass(frozen=True)
    class Pair:
        left: torch.Tensor

    both = join_rows([Pair(torch.zeros(2)), Pair(torch.ones(1))], torch.cat)
    assert both.left.tolist() == [0, 0, 1]
