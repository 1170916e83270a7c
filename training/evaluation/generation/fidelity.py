"""How near drawn faces come to real ones: distances of distributions, memory of training faces, and
edits against true twins.

Shape letters: B pictures, S side in px, F features of the judge.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from affect.model import AffectModel
from training.database.reader import Database
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, summary
from training.evaluation.core.predictions import U8, Faces, Floats
from training.evaluation.generation.drawing import edit_to, redraw
from training.evaluation.judge import distances
from training.evaluation.judge.distances import Manifold

THUMBNAIL_PX = 32  # side at which pictures are compared for memorising
FEWEST_FACES = 20  # on either side of a distance


@dataclass(frozen=True)
class Distances:
    """Drawn faces against real ones, beside other real people against the same (the floor), at the
    same number of faces.
    """

    faces: int
    frechet: Interval
    frechet_floor: Interval
    kernel: Interval
    kernel_floor: Interval
    manifold: Manifold
    manifold_floor: Manifold


@dataclass(frozen=True)
class Memorisation:
    """Whether drawn faces are nearer to training faces than faces of unseen people are."""

    training_faces: int
    drawn_distance: Interval  # median distance to the nearest training face, thumbnails in [0, 1]
    unseen_distance: Interval  # the same for test faces
    # P(a drawn face is nearer to the training set than a test face): 0.5 is as novel as an unseen
    # person
    nearer: Interval


@dataclass(frozen=True)
class TwinEdit:
    """Faces edited to the true state of a twin (same person and scene), against that twin.

    Mean absolute difference in [0, 1].
    """

    faces: int
    edited: Interval
    untouched: Interval  # the unchanged face against the twin: the score of no edit
    null_edit: Interval  # the face edited to the state it is in, against itself


def measure_distances(
    real: Faces, real_features: Floats, drawn_features: Floats, rng: np.random.Generator
) -> Distances | None:
    """Half of the real people are what is compared with; the other half are the floor.

    None with too few of them.
    """
    people = rng.permutation(np.unique(real.identity))
    first = np.isin(real.identity, people[: len(people) // 2])
    count = min(int(first.sum()), int((~first).sum()), len(drawn_features))
    if count < FEWEST_FACES:
        return None
    sides = (
        rng.permutation(np.flatnonzero(first))[:count],
        rng.permutation(np.flatnonzero(~first))[:count],
    )
    reference, floor = (real_features[rows] for rows in sides)
    identities, floor_identities = (real.identity[rows] for rows in sides)
    drawn_rows = rng.permutation(drawn_features)[:count]
    return Distances(
        faces=count,
        frechet=distances.frechet_interval(reference, drawn_rows, rng, people=(identities, None)),
        frechet_floor=distances.frechet_interval(
            reference, floor, rng, people=(identities, floor_identities)
        ),
        kernel=distances.kernel_interval(reference, drawn_rows, rng),
        kernel_floor=distances.kernel_interval(reference, floor, rng),
        manifold=distances.manifold(reference, drawn_rows, rng, identities),
        manifold_floor=distances.manifold(reference, floor, rng, identities, floor_identities),
    )


def memory(
    database: Database, drawn: U8, unseen: Faces, training_images: int, rng: np.random.Generator
) -> tuple[Memorisation | None, list[tuple[U8, U8]]]:
    """Nearest training faces of drawn faces and of unseen people, and the closest pairs (drawn,
    training) to look at.
    """
    count = len(database.table("train"))
    if not count:
        return None, []
    rows = np.sort(rng.permutation(count)[:training_images])
    stored_images = database.images("train", rows, THUMBNAIL_PX)
    training_thumbnails = _thumbnails(stored_images)
    drawn_distance, neighbour = distances.nearest(_thumbnails(drawn), training_thumbnails)
    unseen_distance, _ = distances.nearest(_thumbnails(unseen.images), training_thumbnails)
    is_drawn = np.concatenate([np.ones(len(drawn)), np.zeros(len(unseen))])
    clusters = np.concatenate(
        [[f"drawn {i}" for i in range(len(drawn))], unseen.identity.astype(str)]
    )
    weights, scale = (
        metrics.resamplings(clusters, rng),
        THUMBNAIL_PX * 3**0.5,
    )  # root mean square per value
    nearer = metrics.auc(is_drawn, -np.concatenate([drawn_distance, unseen_distance]), weights)
    drawn_median = metrics.median_interval(drawn_distance / scale, weights[:, : len(drawn)])
    unseen_median = metrics.median_interval(unseen_distance / scale, weights[:, len(drawn) :])
    closest = np.argsort(drawn_distance)[:8]
    full = database.images("train", rows[neighbour[closest]], drawn.shape[1])
    pairs = [(drawn[i], picture) for i, picture in zip(closest, full, strict=True)]
    return Memorisation(len(rows), drawn_median, unseen_median, summary(nearer)), pairs


def _thumbnails(images: U8) -> Floats:
    """(B, 3 * THUMBNAIL_PX^2) in [0, 1]."""
    x = AffectModel.to_pixels(torch.from_numpy(images))
    if x.shape[-1] != THUMBNAIL_PX:
        x = torch.nn.functional.interpolate(
            x, (THUMBNAIL_PX, THUMBNAIL_PX), mode="bilinear", antialias=True, align_corners=False
        )
    return (x.flatten(1).numpy().astype(np.float64) + 1) / 2


def twin_edits(
    model: AffectModel, faces: Faces, most: int, generator: Generator
) -> TwinEdit | None:
    """How near an edit comes to what is true: the same person in the same scene in the other state.

    None without twins.
    """
    rows = np.flatnonzero((faces.twin_of >= 0) & np.isfinite(faces.truth).any(1))[:most]
    if not len(rows):
        return None
    start, twins = faces.images[rows], faces.images[faces.twin_of[rows]]
    edited = edit_to(model, start, faces.truth[faces.twin_of[rows]], generator).images
    identity_edit = redraw(model, start, lambda x: model.edit(x, model.labels(x)))
    weights = metrics.resamplings(faces.identity[rows], np.random.default_rng(0))
    pairs = ((edited, twins), (start, twins), (identity_edit, start))
    errors = (np.abs(a.astype(np.float64) - b).mean((1, 2, 3)) / 255 for a, b in pairs)
    return TwinEdit(len(rows), *(summary(weights @ error / weights.sum(1)) for error in errors))
