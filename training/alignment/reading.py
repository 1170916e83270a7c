"""The cost of estimated alignment for a reader: the same heads, cropped by their true eyes and by
the face finder.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import trange

from affect.faces import FaceFinder, NoFaceError, align, crops
from affect.model import AffectModel
from training.evaluation.core.metrics import auc
from training.renderer.expressions import AU_CODES, draw_state
from training.renderer.face import LOOSE, render_face
from training.renderer.person import draw_person
from training.renderer.scene import draw_scene

BATCH = 64
PRESENT = 0.3  # intensity from which an AU counts as present
RESAMPLINGS = 200  # of the heads, with replacement, for the interval

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Cost:
    """Mean AU AUC on crops by true and by found eyes, and their difference with a 95 % bootstrap
    interval over heads.
    """

    heads: int
    missed: int  # heads in which no face was found; they are in neither figure
    true: float
    detected: float
    drop: tuple[float, float, float]  # mean, low, high

    def __str__(self) -> str:
        drop, low, high = self.drop
        return (
            f"AU AUC {self.true:.4f} by true eyes, {self.detected:.4f} by found ones: "
            f"{drop:.4f} [{low:.4f}, {high:.4f}] lost; "
            f"{self.heads} heads, {self.missed} not found"
        )


def cost_of_alignment(
    model: AffectModel, finder: FaceFinder, *, heads: int, picture_px: int, seed: int
) -> Cost:
    """Render whole heads (P, P, 3) of a seed as sittings have them, and read each in both crops."""
    side = model.card.image_px
    codes = [code for code in model.card.vocabulary if code in AU_CODES]
    true, located, labels, missed = [], [], [], 0
    for number in trange(heads, desc="heads"):
        rng = np.random.default_rng((seed, number))
        scene, person, state = draw_scene(rng), draw_person(rng), draw_state(rng)
        face = render_face(person, scene, state, size_px=picture_px, framing=LOOSE)
        try:
            ((_, crop),) = crops(finder, face.image, size_px=side)
        except NoFaceError:
            missed += 1
            continue
        true.append(align(face.image, face.points, side))
        located.append(crop)
        labels.append([float(state.intensities.get(code, 0.0) >= PRESENT) for code in codes])
    columns = [model.card.vocabulary.index(code) for code in codes]
    scores = [_logits(model, np.stack(images))[:, columns] for images in (true, located)]
    weights = np.concatenate(
        [
            np.ones((1, len(labels))),
            np.random.default_rng(seed).multinomial(
                len(labels), np.ones(len(labels)) / len(labels), RESAMPLINGS
            ),
        ]
    )
    by_true, by_detected = (_mean_auc(np.array(labels), score, weights) for score in scores)
    difference = by_true - by_detected
    low, high = np.quantile(difference[1:], (0.025, 0.975))
    return Cost(
        len(labels),
        missed,
        float(by_true[0]),
        float(by_detected[0]),
        (float(difference[0]), float(low), float(high)),
    )


def _mean_auc(
    truth: NDArray[np.float64], score: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(R,) mean over AUs, for each row of weights (R, N)."""
    aucs: NDArray[np.float64] = np.stack(
        [auc(truth[:, k], score[:, k], weights) for k in range(truth.shape[1])]
    )
    return np.asarray(np.nanmean(aucs, axis=0))


@torch.no_grad()
def _logits(model: AffectModel, images: U8) -> NDArray[np.float64]:
    batches = torch.split(torch.from_numpy(images), BATCH)
    return (
        torch.cat([model.read(model.to_pixels(batch)).logits for batch in batches]).double().numpy()
    )
