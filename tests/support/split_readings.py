"""What a model might have read off faces."""

import numpy as np
from numpy.typing import NDArray

from training.evaluation.core.predictions import Read


def made_reading(
    logits: NDArray[np.float64],
    va: NDArray[np.float64],
    *,
    expression: NDArray[np.float64] | None = None,
    pose: NDArray[np.float64] | None = None,
    sides: NDArray[np.float64] | None = None,
) -> Read:
    """Of N faces: logits (N, K), valence and arousal (N, 2); nothing is strange, all is redrawn."""
    count = len(logits)
    none = np.zeros((count, 0))
    return Read(
        logits,
        va,
        critic=np.zeros(count),
        strangeness=np.zeros(count),
        latent_distance=np.zeros(count),
        reconstruction_error=np.zeros(count),
        expression=none if expression is None else expression,
        pose=none if pose is None else pose,
        sides=np.zeros((count, 2, 0)) if sides is None else sides,
    )
