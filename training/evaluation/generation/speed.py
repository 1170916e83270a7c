"""How long reading, drawing and editing take on this machine."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from affect.model import AffectModel
from training.evaluation.core.metrics import Interval

SPEED_REPEATS = 9


def speed(model: AffectModel) -> dict[str, Interval]:
    """Milliseconds a face on this machine with torch's present threads: median, fastest and slowest
    of SPEED_REPEATS.
    """
    side, generator = model.card.image_px, Generator().manual_seed(0)
    arguments = (
        model.sample_latents(16, generator),
        torch.zeros(16, len(model.card.vocabulary) + 2, device=model.platt.device),
    )
    x = torch.zeros(16, 3, side, side, device=model.platt.device)

    def read(rows: int) -> Tensor:
        return model.read(x[:rows]).va

    def draw(rows: int) -> Tensor:
        return model.generate(arguments[0][:rows], arguments[1][:rows])

    def edit(rows: int) -> Tensor:
        return model.edit(x[:rows], arguments[1][:rows])

    timings = {}
    for rows in (1, 16):
        timings[f"read, {rows} at once"] = _milliseconds(partial(read, rows), rows)
        timings[f"draw, {rows} at once"] = _milliseconds(partial(draw, rows), rows)
        timings[f"edit, {rows} at once"] = _milliseconds(partial(edit, rows), rows)
    return timings


@torch.inference_mode()
def _milliseconds(work: Callable[[], Tensor], faces: int) -> Interval:
    durations = []
    for _ in range(SPEED_REPEATS + 1):
        start = time.perf_counter()
        work().sum().item()  # .item waits for the device
        durations.append(1000 * (time.perf_counter() - start) / faces)
    return Interval(
        *(round(float(statistic(durations[1:])), 3) for statistic in (np.median, min, max))
    )
