"""The learning rate over a run."""

import math


def schedule(progress: float, warmup: float) -> float:
    """Share of the learning rate: a short linear rise, then half a cosine down to nothing."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
