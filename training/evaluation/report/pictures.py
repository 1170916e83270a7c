"""Sheets of faces a person can look at: what a model draws, redraws and changes.

Pictures are uint8 RGB.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Generator

from affect.catalogue import CATALOGUE
from affect.counterfactual import Explanation, Question, explain
from affect.model import AffectModel
from training.evaluation.core.predictions import U8, Faces, Floats
from training.evaluation.generation.generation import draw_samples, edit_to, reconstruct

SWEEP = (0.0, 0.33, 0.66, 1.0)
SWEEP_PEOPLE = 3
GRID = np.linspace(-0.9, 0.9, 7)
SMILE = {"AU6": 0.7, "AU12": 0.9, "AU25": 0.6}
WEBP_QUALITY = 84


@dataclass(frozen=True)
class Strip:
    """A row of faces and what it shows."""

    title: str
    image: U8  # (S, n S, 3)


def sheet(images: U8, columns: int) -> U8:
    """(rows S, columns S, 3) of (N, S, S, 3); a last row that is not full ends in white."""
    count, side = images.shape[:2]
    rows = -(-count // columns)
    filled = np.full((rows * columns, side, side, 3), 255, np.uint8)
    filled[:count] = images
    return (
        filled.reshape(rows, columns, side, side, 3)
        .swapaxes(1, 2)
        .reshape(rows * side, columns * side, 3)
    )


def counterfactuals(model: AffectModel, faces: Faces) -> list[Strip]:
    """Why was this face read so?

    Face, its counterfactual, where they differ, and the way between, under the explanation's
    sentence.
    """
    answers = explain(model, faces.images, [Question()] * len(faces))
    strips = []
    for image, answer in zip(faces.images, answers, strict=True):
        if isinstance(answer, Explanation):
            row = [image, answer.counterfactual, answer.signed, *answer.frames]
            strips.append(Strip(answer.sentence, sheet(np.stack(row), len(row))))
    return strips


def data_uri(image: U8) -> str:
    """The picture as a WebP data URI."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "WEBP", quality=WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def au_sweeps(model: AffectModel, generator: Generator) -> list[Strip]:
    """Per AU: SWEEP_PEOPLE people, each at rest and then with the AU stronger and stronger,
    everything else asked to rest.
    """
    if not model.card.learns_aus:
        return []
    people = model.sample_latents(SWEEP_PEOPLE, generator)
    z = people.repeat_interleave(len(SWEEP), dim=0)
    strips = []
    for k, code in enumerate(model.card.vocabulary):
        wish = torch.zeros(len(z), len(model.card.vocabulary) + 2)
        wish[:, -2:] = float("nan")
        wish[:, k] = torch.tensor(SWEEP).repeat(SWEEP_PEOPLE)
        drawn = _draw(model, z, wish, generator)
        strips.append(Strip(f"{code} {CATALOGUE[code].name}", _parted(drawn, len(SWEEP))))
    return strips


def circumplex_sheet(model: AffectModel, generator: Generator) -> U8 | None:
    """One person over valence (left to right) and arousal (bottom to top)."""
    if not model.card.learns_va:
        return None
    z = model.sample_latents(1, generator).repeat(len(GRID) ** 2, 1)
    wish = torch.full((len(z), len(model.card.vocabulary) + 2), float("nan"))
    arousal, valence = np.meshgrid(GRID[::-1], GRID, indexing="ij")
    wish[:, -2], wish[:, -1] = torch.from_numpy(valence.ravel()), torch.from_numpy(arousal.ravel())
    return sheet(_draw(model, z, wish, generator), len(GRID))


def random_sheet(model: AffectModel, asked: Floats, generator: Generator) -> U8:
    """64 new people in states asked by real label rows."""
    return sheet(draw_samples(model, asked[:64], generator).images, 8)


def change_strips(model: AffectModel, faces: Faces, generator: Generator) -> list[Strip]:
    """Test faces; redrawn; edited to smile, to valence -0.7 and to another face's state."""
    images, names = faces.images, model.card.labels_of.names
    strips = [
        Strip("faces of unseen people", images),
        Strip("redrawn from their code alone", reconstruct(model, images)),
    ]
    nothing = np.full((len(images), len(names)), np.nan)
    if model.card.learns_aus:
        smile = nothing.copy()
        for code, value in SMILE.items():
            if code in names:
                smile[:, names.index(code)] = value
        strips.append(Strip("edited: smile", edit_to(model, images, smile, generator).images))
        if "AU4" in names:
            frown = nothing.copy()
            frown[:, :-2] = 0.0
            frown[:, names.index("AU4")] = 0.9
            strips.append(
                Strip(
                    "edited: brows lowered, all else at rest",
                    edit_to(model, images, frown, generator).images,
                )
            )
    if model.card.learns_va:
        for title, valence, arousal in (
            ("edited: valence -0.7", -0.7, np.nan),
            ("edited: arousal 0.8", np.nan, 0.8),
        ):
            wish = nothing.copy()
            wish[:, -2:] = valence, arousal
            strips.append(Strip(title, edit_to(model, images, wish, generator).images))
    return [Strip(strip.title, sheet(strip.image, len(strip.image))) for strip in strips]


def _parted(images: U8, every: int) -> U8:
    """One row of pictures, with a white gap after each person's."""
    side = images.shape[1]
    gap = np.full((side, side // 8, 3), 255, np.uint8)
    people = [
        np.concatenate(list(images[start : start + every]), axis=1)
        for start in range(0, len(images), every)
    ]
    return np.concatenate([part for person in people for part in (person, gap)][:-1], axis=1)


def _draw(model: AffectModel, z: torch.Tensor, wish: torch.Tensor, generator: Generator) -> U8:
    with torch.inference_mode():
        y = model.sample_labels(model.mask(wish.to(model.platt.device)), generator)
        return np.asarray(model.to_images(model.generate(z, y)).cpu().numpy())
