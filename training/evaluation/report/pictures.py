"""Sheets of faces for people: what a model draws, redraws and changes.

Pictures are uint8 RGB.
"""

import numpy as np
import torch
from torch import Generator

from affect.catalogue import CATALOGUE
from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.model import AffectModel
from affect.picture_grid import picture_grid
from training.evaluation.core.predictions import U8, Faces, Floats
from training.evaluation.generation.drawing import draw_samples, edit_to, reconstruct
from training.pages import Strip, strip

SWEEP = (0.0, 0.33, 0.66, 1.0)
SWEEP_PEOPLE = 3
GRID = np.linspace(-0.9, 0.9, 7)
SMILE = {"AU6": 0.7, "AU12": 0.9, "AU25": 0.6}


def counterfactuals(model: AffectModel, faces: Faces) -> list[Strip]:
    """Why was this face read so?

    Face, its counterfactual, where they differ, and the way between, under the explanation's
    sentence.
    """
    answers = explain(model, faces.images, [CounterfactualQuestion()] * len(faces))
    strips = []
    for image, answer in zip(faces.images, answers, strict=True):
        if isinstance(answer, Explanation):
            row = [image, answer.counterfactual, answer.signed, *answer.frames]
            strips.append(strip(answer.sentence, np.stack(row)))
    return strips


def au_sweeps(model: AffectModel, generator: Generator) -> list[Strip]:
    """Per AU: SWEEP_PEOPLE people, each at rest and then with the AU stronger and stronger,
    everything else asked to rest.
    """
    if not model.card.learns_aus:
        return []
    latents = model.sample_latents(SWEEP_PEOPLE, generator)
    z = latents.repeat_interleave(len(SWEEP), dim=0)
    strips = []
    for k, code in enumerate(model.card.vocabulary):
        labels = torch.zeros(len(z), len(model.card.vocabulary) + 2)
        labels[:, -2:] = float("nan")
        labels[:, k] = torch.tensor(SWEEP).repeat(SWEEP_PEOPLE)
        images = _draw(model, z, labels, generator)
        strips.append(Strip(f"{code} {CATALOGUE[code].name}", _parted(images, len(SWEEP))))
    return strips


def circumplex_sheet(model: AffectModel, generator: Generator) -> U8 | None:
    """One person over valence (left to right) and arousal (bottom to top)."""
    if not model.card.learns_va:
        return None
    z = model.sample_latents(1, generator).repeat(len(GRID) ** 2, 1)
    labels = torch.full((len(z), len(model.card.vocabulary) + 2), float("nan"))
    arousal, valence = np.meshgrid(GRID[::-1], GRID, indexing="ij")
    labels[:, -2], labels[:, -1] = (
        torch.from_numpy(valence.ravel()),
        torch.from_numpy(arousal.ravel()),
    )
    return picture_grid(_draw(model, z, labels, generator), len(GRID))


def random_sheet(model: AffectModel, requested: Floats, generator: Generator) -> U8:
    """64 new people in states asked by real label rows."""
    return picture_grid(draw_samples(model, requested[:64], generator).images, 8)


def change_strips(model: AffectModel, faces: Faces, generator: Generator) -> list[Strip]:
    """Test faces; redrawn; edited to smile, to valence -0.7 and to another face's state."""
    images, names = faces.images, model.card.labels_of.names
    strips = [
        strip("faces of unseen people", images),
        strip("redrawn from their code alone", reconstruct(model, images)),
    ]
    unconstrained = np.full((len(images), len(names)), np.nan)
    if model.card.learns_aus:
        smile = unconstrained.copy()
        for code, value in SMILE.items():
            if code in names:
                smile[:, names.index(code)] = value
        strips.append(strip("edited: smile", edit_to(model, images, smile, generator).images))
        if "AU4" in names:
            frown = unconstrained.copy()
            frown[:, :-2] = 0.0
            frown[:, names.index("AU4")] = 0.9
            strips.append(
                strip(
                    "edited: brows lowered, all else at rest",
                    edit_to(model, images, frown, generator).images,
                )
            )
    if model.card.learns_va:
        for title, valence, arousal in (
            ("edited: valence -0.7", -0.7, np.nan),
            ("edited: arousal 0.8", np.nan, 0.8),
        ):
            labels = unconstrained.copy()
            labels[:, -2:] = valence, arousal
            strips.append(strip(title, edit_to(model, images, labels, generator).images))
    return strips


def _parted(images: U8, every: int) -> U8:
    """One row of pictures, with a white gap after each person's."""
    grids = [
        picture_grid(images[start : start + every], every) for start in range(0, len(images), every)
    ]
    return picture_grid(grids, len(grids), gap_px=images.shape[1] // 8)


def _draw(model: AffectModel, z: torch.Tensor, labels: torch.Tensor, generator: Generator) -> U8:
    with torch.inference_mode():
        y = model.sample_labels(model.mask(labels.to(model.platt.device)), generator)
        return np.asarray(model.to_images(model.generate(z, y)).cpu().numpy())
