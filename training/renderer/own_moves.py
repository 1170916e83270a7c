"""Facial actions that the head model lacks, as soft bumps on the skin: frowning, cheeks, dimples,
nose, chin.

Places and distances in mm on the average head, x to the subject's left, y backwards, z up, as in
`geometry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32
MM = 0.001
MIDLINE_M = 0.008  # half the width over which a left action fades into the right one


@dataclass(frozen=True)
class Bump:
    """Skin near (x, z) moves by (dx, dy, dz), fading with half widths (sx, sz); x is the left
    one's, mirrored for the right.
    """

    at: tuple[float, float]
    reach: tuple[float, float]
    move: tuple[float, float, float]


# By what the muscles do (Ekman, Friesen & Hager, FACS manual, 2002).
PAIRED: Mapping[str, tuple[Bump, ...]] = {
    # Corrugator: the inner brow goes in and down, the skin between the brows bulges.
    "browFurrow": (
        Bump((14, 14), (11, 9), (-4.4, -0.6, -3.2)),
        Bump((4, 12), (5, 9), (0.0, -1.0, 0.0)),
        Bump((42, 18), (9, 8), (0.0, 0.0, 1.6)),
    ),
    # Frontalis, outer part: the brow's outer two thirds rise as one arch.
    "browLift": (Bump((42, 20), (24, 14), (0.0, 0.0, 3.8)),),
    # Zygomaticus: the cheek fills up above the fold that runs from the nose to the corner.
    "cheekApple": (Bump((37, -36), (12, 10), (1.0, -2.4, 1.8)),),
    # Orbicularis oculi, outer part: the cheek's top bulges and pushes the lower lid up.
    "cheekBulge": (
        Bump((36, -25), (14, 10), (0.5, -2.4, 3.2)),
        Bump((32, -9), (14, 5), (0.0, -0.8, 0.7)),
    ),
    # Buccinator: the corner is drawn straight back into a pit, the cheek beside it bulges.
    "cornerPit": (
        Bump((25, -71), (6, 6), (0.2, 4.2, 0.0)),
        Bump((38, -71), (7, 9), (-0.6, -2.6, 0.0)),
    ),
    # Levator labii alaeque nasi: skin runs up the sides of the nose and bunches at its root.
    "noseWrinkle": (
        Bump((10, -14), (8, 10), (0.0, -1.0, 3.2)),
        Bump((21, -30), (10, 12), (-1.5, -1.2, 3.4)),
        Bump((15, -44), (8, 8), (1.2, -0.8, 3.0)),
        Bump((10, -63), (10, 6), (0.0, -0.8, 2.4)),
    ),
}
SINGLE: Mapping[str, tuple[Bump, ...]] = {
    # Mentalis: the chin boss goes up and flattens, the lower lip is pushed up and out.
    "chinRaise": (
        Bump((0, -101), (15, 9), (0.0, -1.6, 4.0)),
        Bump((0, -83), (17, 5), (0.0, -1.8, 1.2)),
    ),
    # How heads differ at rest, beyond the basis of people.
    "chinShort": (Bump((0, -116), (40, 15), (0.0, 0.8, 5.0)),),
    "lipsFull": (
        Bump((0, -65), (18, 3), (0.0, -1.6, 1.0)),
        Bump((0, -83), (16, 5), (0.0, -1.6, -1.4)),
    ),
    "lowerLidLow": (
        Bump((31, -7), (15, 4), (0.0, 0.0, -1.6)),
        Bump((-31, -7), (15, 4), (0.0, 0.0, -1.6)),
    ),
}  # fmt: skip


def own_moves(mean: Floats, skin: NDArray[np.bool_]) -> dict[str, Floats]:
    """Action name to (V, 3) metres, for the average head's vertices (V, 3) in metres of which
    `skin` (V,) may move.
    """
    front = skin & (mean[:, 1] < 0.05)
    moves = {
        name: sum(_field(mean, front, bump) for bump in bumps) for name, bumps in SINGLE.items()
    }
    for name, bumps in PAIRED.items():
        for side, sign in (("Left", 1), ("Right", -1)):
            moves[name + side] = sum(_field(mean, front, bump, sign) for bump in bumps)
    return moves  # type: ignore[return-value]


def halves(mean: Floats, move: Floats) -> tuple[Floats, Floats]:
    """A move (V, 3) of the whole face as those of the subject's left and right half."""
    share = np.clip(0.5 + mean[:, :1] / (2 * MIDLINE_M), 0, 1)
    return (move * share).astype(np.float32), (move * (1 - share)).astype(np.float32)


def _field(mean: Floats, front: NDArray[np.bool_], bump: Bump, sign: int = 1) -> Floats:
    x, z = mean[:, 0] * sign / MM, mean[:, 2] / MM
    weight = np.exp(
        -(((x - bump.at[0]) / bump.reach[0]) ** 2) - ((z - bump.at[1]) / bump.reach[1]) ** 2
    )
    move = np.array(bump.move) * MM * [sign, 1, 1]
    return ((weight * front)[:, None] * move).astype(np.float32)
