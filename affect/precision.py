"""Numbers of two bytes: training in mixed precision, and weights whose files are half as long and
compress better in a repository.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

SHORT = (torch.bfloat16, torch.float16)  # float16: weights rounded before bfloat16 was chosen


@torch.no_grad()
def round_to_bfloat16(module: nn.Module) -> None:
    """Round every weight to the nearest number of bfloat16 (relative error at most 2**-9), in which
    convolutions are trained anyway.
    """
    for parameter in module.parameters():
        parameter.copy_(parameter.bfloat16())


def shortest(tensor: Tensor) -> Tensor:
    """The tensor in the first of `SHORT` that holds all its numbers, else as it is.

    On the processor and contiguous, to be written.
    """
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.float32:
        for dtype in SHORT:
            short = tensor.to(dtype)
            if torch.equal(short.float().nan_to_num(), tensor.nan_to_num()):
                return short
    return tensor


def mixed(device: str) -> AbstractContextManager[Any]:
    """bfloat16 autocast where the machine multiplies in it; elsewhere it would only lose digits and
    time.
    """
    native = device == "cuda" or bool(
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    )
    return torch.autocast(device, dtype=torch.bfloat16) if native else nullcontext()
