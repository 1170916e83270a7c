"""The layers of trunk and decoder."""

import pytest
import torch

from affect.networks import modulated


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_modulated_map_has_the_same_bits_in_either_order_of_memory(dtype: torch.dtype) -> None:
    x = torch.randn(3, 5, 8, 6, dtype=dtype)
    scale, shift = torch.randn(2, 3, 5, dtype=dtype)
    last = modulated(x.contiguous(memory_format=torch.channels_last), scale, shift)
    assert torch.equal(last, modulated(x, scale, shift))
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_modulation_do_not_depend_on_the_order_of_memory() -> None:
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    inputs = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    both = [
        torch.autograd.grad((modulated(y, *inputs) ** 2).sum(), inputs)
        for y in (x, x.contiguous(memory_format=torch.channels_last))
    ]
    assert all(torch.allclose(a, b) for a, b in zip(*both, strict=True))
