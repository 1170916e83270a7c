"""Robustness of readings: the same test faces blurred, noised, darkened, occluded, rotated; and
out-of-distribution pictures that show no face.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import skimage
from numpy.random import Generator
from torch import Tensor

from affect.faces import EYES, align
from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, summary
from training.evaluation.core.predictions import U8, Faces, Read, in_batches, read
from training.evaluation.recognition.recognition import presence
from training.renderer.background import background

Corruption = Callable[[U8, float, Generator], U8]
FALSE_ALARMS = 0.05  # share of test faces that may be refused with the out-of-distribution pictures


@dataclass(frozen=True)
class CorruptionLevel:
    """Figures at one strength of corruption; 0 is the original."""

    strength: float
    mean_auc: Interval
    mean_ccc: Interval


@dataclass(frozen=True)
class Curve:
    """One kind of corruption."""

    name: str
    unit: str
    levels: tuple[CorruptionLevel, ...]


@dataclass(frozen=True)
class OutOfDistribution:
    """One kind of picture that is no aligned face: AUROC against test faces by `realism`
    (features), critic, latent and reconstruction.
    """

    name: str
    pictures: int
    realism_auroc: Interval
    # share of them that is farther from the training faces than 95 % of the test faces
    turned_away: Interval
    critic_auroc: Interval
    latent_auroc: Interval
    reconstruction_auroc: Interval


def curves(model: AffectModel, faces: Faces, rng: Generator) -> tuple[Curve, ...]:
    """Every corruption at every strength on the given faces."""
    weights = metrics.resamplings(faces.identity, rng)
    uncorrupted = _level(model, faces, faces.images, weights, 0.0)
    all_curves = []
    for name, (unit, strengths, corruption) in CORRUPTIONS.items():
        levels = [uncorrupted]
        for strength in strengths:
            corrupted = np.stack([corruption(image, strength, rng) for image in faces.images])
            levels.append(_level(model, faces, corrupted, weights, strength))
        all_curves.append(Curve(name, unit, tuple(levels)))
    return tuple(all_curves)


def _level(
    model: AffectModel, faces: Faces, images: U8, weights: metrics.Floats, strength: float
) -> CorruptionLevel:
    def one(x: Tensor) -> tuple[Tensor, ...]:
        output = model.read(x)
        return output.logits, output.va

    (logits, va), card = in_batches(model, one, images), model.card
    present = presence(card, faces.truth)
    columns = range(len(card.vocabulary)) if card.learns_aus else range(0)
    aucs = [metrics.auc(present[:, k], logits[:, k], weights) for k in columns]
    cccs = [
        metrics.ccc(faces.truth[:, i - 2], va[:, i], weights) for i in range(2) if card.learns_va
    ]
    return CorruptionLevel(
        strength, *(summary(metrics.mean_over_labels(kind)) for kind in (aucs, cccs))
    )


def out_of_distribution(
    model: AffectModel, faces: Faces, readings: Read, count: int, rng: Generator
) -> tuple[OutOfDistribution, ...]:
    """Every kind of out-of-distribution picture against the given test faces and their readings."""
    figures = []
    for name, make in OUT_OF_DISTRIBUTION.items():
        images = np.stack([make(faces.images[i % len(faces)], rng) for i in range(count)])
        ood_readings = read(model, images)
        real = np.concatenate([np.ones(len(faces)), np.zeros(count)])
        clusters = np.concatenate(
            [faces.identity.astype(str), [f"out of distribution {i}" for i in range(count)]]
        )
        weights = metrics.resamplings(clusters, rng)
        scores = ("strangeness", "critic", "latent_distance", "reconstruction_error")
        sides = {
            name: np.concatenate([getattr(readings, name), getattr(ood_readings, name)])
            for name in scores
        }
        realism, *other_aucs = (
            summary(metrics.auc(real if name == "critic" else 1 - real, sides[name], weights))
            for name in scores
        )
        is_refused = (
            ood_readings.strangeness > np.quantile(readings.strangeness, 1 - FALSE_ALARMS)
        ).astype(np.float64)
        turned_away = metrics.mean_interval(is_refused, metrics.resamplings(np.arange(count), rng))
        figures.append(OutOfDistribution(name, count, realism, turned_away, *other_aucs))
    return tuple(figures)


# -- corruptions: (S, S, 3) -> (S, S, 3)
# ------------------------------------------------------------------


def blur(image: U8, strength: float, rng: Generator) -> U8:
    """Gaussian blur; strength is its sd as a percentage of the picture's side."""
    return _u8(cv2.GaussianBlur(image, (0, 0), strength / 100 * len(image)))


def noise(image: U8, strength: float, rng: Generator) -> U8:
    """Gaussian noise; strength is its sd as a percentage of full scale."""
    return _u8(image + rng.normal(0, 2.55 * strength, image.shape))


def jpeg(image: U8, strength: float, rng: Generator) -> U8:
    """JPEG at quality 100 - strength."""
    succeeded, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(100 - strength)])
    assert succeeded
    return _u8(cv2.imdecode(code, cv2.IMREAD_COLOR))


def darkness(image: U8, strength: float, rng: Generator) -> U8:
    """Exposure cut by `strength` stops in linear light, quantised again."""
    return _u8(255 * ((image / 255) ** 2.2 * 0.5**strength) ** (1 / 2.2))


def occlusion(image: U8, strength: float, rng: Generator) -> U8:
    """A flat square that hides `strength` percent of the picture, somewhere."""
    side = len(image)
    size = round(side * (strength / 100) ** 0.5)
    top, left = rng.integers(0, side - size + 1, 2)
    hidden = image.copy()
    hidden[top : top + size, left : left + size] = rng.integers(0, 256, 3)
    return hidden


def rotation(image: U8, strength: float, rng: Generator) -> U8:
    """Turned by `strength` degrees either way about the middle of the eyes: what a misled aligner
    does.
    """
    side = len(image)
    centre = tuple(float(c) * side for c in np.mean(EYES, axis=0))
    turn = cv2.getRotationMatrix2D(centre, strength * float(rng.choice([-1, 1])), 1.0)
    return _u8(cv2.warpAffine(image, turn, (side, side), borderMode=cv2.BORDER_REFLECT))


def shift(image: U8, strength: float, rng: Generator) -> U8:
    """Moved by `strength` percent of the side in some direction."""
    angle, distance = rng.uniform(0, 2 * np.pi), strength / 100 * len(image)
    move = np.array([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]])
    return _u8(cv2.warpAffine(image, move, image.shape[:2], borderMode=cv2.BORDER_REFLECT))


def smallness(image: U8, strength: float, rng: Generator) -> U8:
    """A face of `strength` px enlarged to this size."""
    small = cv2.resize(image, (int(strength), int(strength)), interpolation=cv2.INTER_AREA)
    return _u8(cv2.resize(small, image.shape[:2], interpolation=cv2.INTER_LINEAR))


CORRUPTIONS: dict[str, tuple[str, tuple[float, ...], Corruption]] = {
    "blur": ("sd, % of side", (1, 2, 3, 5), blur),
    "noise": ("sd, % of full scale", (3, 6, 12, 20), noise),
    "JPEG": ("100 - quality", (30, 60, 80, 90), jpeg),
    "darkness": ("stops", (1, 2, 3, 4), darkness),
    "occlusion": ("% hidden", (5, 10, 20, 30), occlusion),
    "rotation": ("degrees", (3, 6, 10, 15), rotation),
    "shift": ("% of side", (2, 4, 7, 10), shift),
    "small face": ("px", (48, 32, 24, 16), smallness),
}


# -- no faces: made from a test face (S, S, 3) or from nothing -------------------------------------


# Photographs that come with scikit-image, without people in them.
PHOTOGRAPHS = (
    "brick",
    "cell",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)


def _cartoon(face: U8, rng: Generator) -> U8:
    """A drawn smiley with eyes where an aligned face has them."""
    side = len(face)
    big = np.empty((256, 256, 3), np.uint8)
    big[:] = rng.integers(0, 256, 3)
    cv2.ellipse(
        big, (128, 150), (100, 120), 0, 0, 360, rng.integers(120, 256, 3).tolist(), -1, cv2.LINE_AA
    )
    for x, y in EYES:
        cv2.circle(
            big,
            (int(256 * x), int(256 * y)),
            int(rng.integers(8, 22)),
            (20, 20, 20),
            -1,
            cv2.LINE_AA,
        )
    cv2.ellipse(
        big,
        (128, 190),
        (45, int(rng.integers(5, 35))),
        0,
        *((0, 180) if rng.random() < 0.5 else (180, 360)),
        (120, 20, 20),
        6,
        cv2.LINE_AA,
    )
    return _u8(cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA))


def _scrambled(face: U8, rng: Generator) -> U8:
    """The face cut into 16 squares, shuffled."""
    part = len(face) // 4
    squares = (
        face[: 4 * part, : 4 * part]
        .reshape(4, part, 4, part, 3)
        .swapaxes(1, 2)
        .reshape(16, part, part, 3)
    )
    mixed = (
        squares[rng.permutation(16)]
        .reshape(4, 4, part, part, 3)
        .swapaxes(1, 2)
        .reshape(4 * part, 4 * part, 3)
    )
    return _u8(cv2.resize(mixed, face.shape[:2]))


def _photograph(face: U8, rng: Generator) -> U8:
    """A square of a photograph of things: cups, coins, grass, stars, print."""
    full_picture = _photographs()[rng.integers(len(PHOTOGRAPHS))]
    side = int(min(full_picture.shape[:2]) * rng.uniform(0.3, 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in full_picture.shape[:2])
    return _u8(
        cv2.resize(
            full_picture[top : top + side, left : left + side],
            face.shape[:2],
            interpolation=cv2.INTER_AREA,
        )
    )


@cache
def _photographs() -> list[U8]:
    pictures = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    return [
        photograph if photograph.ndim == 3 else np.repeat(photograph[..., None], 3, axis=2)
        for photograph in pictures
    ]


@cache
def _chelsea() -> U8:
    return np.asarray(skimage.data.chelsea())


def _cat(face: U8, rng: Generator) -> U8:
    """A cat's face where a person's would be, its eyes found now better, now worse."""
    eyes = np.array([[172.0, 116.0], [319.0, 136.0]]) + rng.normal(0, 8, (2, 2))
    return align(_chelsea(), eyes.astype(np.float32), len(face))


def _scene(face: U8, rng: Generator) -> U8:
    """A background without anybody in it."""
    return _u8(255 * np.clip(background(rng, len(face)), 0, 1) ** (1 / 2.2))


OUT_OF_DISTRIBUTION: dict[str, Callable[[U8, Generator], U8]] = {
    "noise": lambda face, rng: rng.integers(0, 256, face.shape, dtype=np.uint8),
    "flat colour": lambda face, rng: np.broadcast_to(
        rng.integers(0, 256, 3, dtype=np.uint8), face.shape
    ).copy(),
    "scene without a face": _scene,
    "photograph of things": _photograph,
    "cat": _cat,
    "cartoon": _cartoon,
    "scrambled face": _scrambled,
    "face upside down": lambda face, rng: np.ascontiguousarray(face[::-1]),
}


def _u8(image: object) -> U8:
    return np.asarray(np.rint(np.clip(np.asarray(image, np.float64), 0, 255)), np.uint8)
