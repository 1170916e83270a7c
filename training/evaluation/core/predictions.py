"""The faces of one split with a model's readings and the true labels.

Shape letters: N faces, S side in px, K Action Units.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from affect.labels import mask_labels
from affect.model import AffectModel
from affect.rows import take_rows
from training.database.annotations import Annotations, project, read_annotations
from training.database.reader import Database

Floats = NDArray[np.float64]
U8 = NDArray[np.uint8]
BATCH_IMAGES = 64


@dataclass(frozen=True)
class Faces:
    """N faces of a split. Arrays have N rows."""

    images: U8  # (N, S, S, 3)
    truth: Floats  # (N, K + 2) in the model's columns, NaN = not annotated
    # (N, 2) valence and arousal of the oracle, which knows the true state; NaN = not known
    expected_va: Floats
    identity: NDArray[np.generic]  # (N,) who it is: the cluster of every bootstrap
    groups: dict[str, NDArray[np.str_]]  # attribute -> (N,) value, "" where not known
    # (N,) row of another state of the same person in the same scene; -1 where there is none
    twin_of: NDArray[np.intp]
    # (N,) faces of one name are the same person in different states; "" where there is none
    pair: NDArray[np.str_]
    annotations: Annotations  # expression, pose, sides and confidence, for the model's AUs

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.integer]) -> "Faces":
        """Some of the faces, without their twins."""
        return replace(take_rows(self, rows), twin_of=np.full(len(rows), -1))


@dataclass(frozen=True)
class Read:
    """A model's readings of N faces."""

    logits: Floats  # (N, K)
    va: Floats  # (N, 2)
    critic: Floats  # (N,)
    # (N,) Mahalanobis distance of the features from those of training faces: what `realism` ranks
    strangeness: Floats
    latent_distance: Floats  # (N,) Mahalanobis distance of the latent from those of real faces
    reconstruction_error: Floats  # (N,) mean absolute difference of pixels in [0, 1]
    expression: Floats  # (N, E) probabilities of the card's expressions
    pose: Floats  # (N, 3) degrees: yaw, pitch, roll; (N, 0) where not learnt
    sides: Floats  # (N, 2, D) intensities of left, then right, of the card's one-sided AUs

    @property
    def labels(self) -> Floats:
        """(N, K + 2) intensities and valence and arousal."""
        return np.concatenate([expit(self.logits), self.va], axis=1)


@dataclass(frozen=True)
class Decisions:
    """What the model decides about N faces."""

    present: Floats  # (N, K)
    intensity: Floats  # (N, K)
    va: Floats  # (N, 2)


def load_faces(
    database: Database, model: AffectModel, split: str, most_images: int, rng: Generator
) -> Faces:
    """At most so many faces of a split: whole twin groups, drawn at random.

    What the model does not learn is kept: it is only truth.
    """
    table = database.table(split)
    groups_of_twins = table["twin_group"].to_numpy(zero_copy_only=False).astype(str)
    rows = _sample_groups(
        np.where(
            groups_of_twins == "", table["key"].to_numpy(zero_copy_only=False), groups_of_twins
        ),
        most_images,
        rng,
    )
    labels = model.card.labels_of.project(
        mask_labels(database.labels(split)[rows], "both"), database.vocabulary
    ).astype(np.float64)
    truths = database.truth(split)
    expected = np.array(
        [truths[row].get("expected_va") or (np.nan, np.nan) for row in rows], np.float64
    ).reshape(len(rows), 2)
    return Faces(
        images=database.images(split, rows, model.card.image_px),
        truth=labels,
        expected_va=expected,
        identity=_cluster_names(database, split)[rows],
        groups=_attributes(database, split, rows),
        twin_of=_twins(groups_of_twins[rows]),
        pair=np.array([str(truths[row].get("pair") or groups_of_twins[row]) for row in rows]),
        annotations=project(
            read_annotations(database, split).take(rows),
            model.card.vocabulary,
            database.card.vocabulary,
        ),
    )


def read(model: AffectModel, images: U8) -> Read:
    """Read N faces (N, S, S, 3)."""

    def one(x: Tensor) -> tuple[Tensor, ...]:
        output = model.read(x)
        reconstructed = model.generate(output.latent, output.labels)
        error = (model.to_images(x).float() - model.to_images(reconstructed).float()).abs().mean(
            (1, 2, 3)
        ) / 255
        whitened = torch.linalg.solve_triangular(
            model.latent_factor, (output.latent - model.latent_mean).T, upper=False
        )
        return (
            output.logits,
            output.va,
            output.critic,
            model.strangeness(output.features),
            whitened.norm(dim=0),
            error,
            output.expression.softmax(1),
            output.pose,
            output.sides.sigmoid(),
        )

    return Read(*in_batches(model, one, images))


def decide(model: AffectModel, images: U8) -> Decisions:
    """What the model decides about N faces."""

    def one(x: Tensor) -> tuple[Tensor, ...]:
        read = model.predict(x)
        return read.present, read.intensity, read.va

    return Decisions(*in_batches(model, one, images))


@torch.inference_mode()
def in_batches(
    model: AffectModel, function: Callable[[Tensor], tuple[Tensor, ...]], images: U8
) -> list[Floats]:
    """What a function of faces (B, 3, S, S) gives for all of N images, as (N, ...) arrays."""
    parts = [
        function(model.to_pixels(torch.from_numpy(images[rows]).to(model.platt.device)))
        for rows in batches(len(images))
    ]
    return [
        np.concatenate([part.float().cpu().numpy() for part in column]).astype(np.float64)
        for column in zip(*parts, strict=True)
    ]


def batches(count: int) -> Iterator[slice]:
    """Consecutive slices of at most BATCH_IMAGES rows."""
    for start in range(0, count, BATCH_IMAGES):
        yield slice(start, min(start + BATCH_IMAGES, count))


def _sample_groups(names: NDArray[np.generic], most: int, rng: Generator) -> NDArray[np.intp]:
    """Rows of whole groups, in order, until `most` is reached."""
    if len(names) <= most:
        return np.arange(len(names))
    _, member, sizes = np.unique(names, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    sampled = order[: max(int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")), 1)]
    return np.flatnonzero(np.isin(member, sampled))


def _cluster_names(database: Database, split: str) -> NDArray[np.generic]:
    """The cluster of each face: its person, else its video, else itself."""
    identity, video, key = (
        database.column(split, name).astype(str) for name in ("identity", "video", "key")
    )
    return np.where(identity != "", identity, np.where(video != "", video, key))


def _attributes(
    database: Database, split: str, rows: NDArray[np.integer]
) -> dict[str, NDArray[np.str_]]:
    """Group attributes and the source of the given rows, one array each."""
    texts = np.asarray(database.table(split)["groups"].to_pylist())[rows]
    attributes = [json.loads(text) for text in texts]
    names = sorted({name for groups in attributes for name in groups})
    columns = {
        name: np.array([str(groups.get(name, "")) for groups in attributes]) for name in names
    }
    return {"source": database.column(split, "source").astype(str)[rows], **columns}


def _twins(groups: NDArray[np.str_]) -> NDArray[np.intp]:
    """For each row the next one of its group, round in a circle; -1 for rows that are alone."""
    twin = np.full(len(groups), -1)
    for name in np.unique(groups[groups != ""]):
        rows = np.flatnonzero(groups == name)
        if len(rows) > 1:
            twin[rows] = np.roll(rows, -1)
    return twin
