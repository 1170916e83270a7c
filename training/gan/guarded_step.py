"""One step of an optimiser, skipped where the gradient is not finite."""

import torch
from torch import Tensor
from torch.optim import Adam


def step_if_finite(optimiser: Adam, norm: Tensor) -> None:
    """Step, unless the gradient's norm (scalar) is not finite: then weights and moments stay as
    they are.

    A fused Adam decides it on the device (the way of torch.amp's GradScaler), without
    synchronisation; the loop, which reads the norm whenever it logs or saves, ends the run.
    """
    if optimiser.defaults["fused"]:
        optimiser.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        optimiser.step()
    elif torch.isfinite(norm):
        optimiser.step()
