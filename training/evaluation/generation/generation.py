"""How well a model draws what it is asked for, graded by the judge: control, cross-talk, the
circumplex, distance to real faces.

Everything is drawn as it is served: what is not asked is completed from the training distribution.
Shape letters: B pictures, S side in px, K Action Units, Z latent.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from training.database.reader import Database
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, summary
from training.evaluation.core.predictions import U8, Faces, Floats, batches, in_batches
from training.evaluation.judge import distances
from training.evaluation.judge.distances import Manifold

CROSS_TALK_PEOPLE = 32
RAISED = 0.9  # intensity to which cross-talk raises an AU
DIRECTIONS, RADII, CIRCUMPLEX_PEOPLE = 12, (0.4, 0.8), 16
THUMBNAIL_PX = 32  # side at which pictures are compared for memorising
SPEED_REPEATS = 9
FEWEST_FACES = 20  # on either side of a distance


@dataclass(frozen=True)
class Control:
    """How well the judge reads what was asked: AUC of AUs, CCC of valence and arousal."""

    labels: dict[str, Interval]
    mean_auc: Interval
    mean_ccc: Interval


@dataclass(frozen=True)
class CrossTalk:
    """Row k: change of the judge's reading of every AU when AU k alone is raised from 0 to
    RAISED.
    """

    aus: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    wanted: Interval  # mean of the diagonal, over people
    unwanted: Interval  # mean of |off the diagonal|


@dataclass(frozen=True)
class CircumplexPoint:
    """What was asked, and the mean and spread of what the judge read over people."""

    asked: tuple[float, float]
    read: tuple[float, float]
    spread: tuple[float, float]


@dataclass(frozen=True)
class Direction:
    """One direction of the circumplex: which share of the way asked for the judge sees gone."""

    degrees: int  # 0 is pleasure, 90 is arousal
    reach: Interval


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
class Memory:
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
    untouched: Interval  # the face as it was against the twin: what doing nothing scores
    null_edit: Interval  # the face edited to the state it is in, against itself


@dataclass(frozen=True)
class Drawn:
    """Pictures drawn for asked states (B, K + 2), NaN = not asked."""

    images: U8
    asked: Floats


def draw_samples(model: AffectModel, asked: Floats, generator: Generator) -> Drawn:
    """One new person for every asked state."""
    parts = []
    for rows in batches(len(asked)):
        wish = torch.from_numpy(asked[rows]).float().to(model.platt.device)
        with torch.inference_mode():
            z = model.sample_latents(len(wish), generator)
            parts.append(
                model.to_images(model.generate(z, model.sample_labels(model.mask(wish), generator)))
                .cpu()
                .numpy()
            )
    return Drawn(np.concatenate(parts), asked)


def reconstruct(model: AffectModel, images: U8) -> U8:
    """The faces as the generator alone draws them from what was read off them."""
    return _drawn(model, images, model.reconstruct)


def edit_to(model: AffectModel, images: U8, asked: Floats, generator: Generator) -> Drawn:
    """Given faces moved to asked states."""
    wishes = iter(
        [
            torch.from_numpy(asked[rows]).float().to(model.platt.device)
            for rows in batches(len(asked))
        ]
    )

    def one(x: Tensor) -> Tensor:
        output = model.read(x)
        return model.edit(
            x,
            model.target_labels(output.labels, model.mask(next(wishes)), generator),
            output=output,
        )

    return Drawn(_drawn(model, images, one), asked)


def _drawn(model: AffectModel, images: U8, function: Callable[[Tensor], Tensor]) -> U8:
    return in_batches(model, lambda x: (model.to_images(function(x)),), images)[0].astype(np.uint8)


class JudgeEvaluator:
    """The judge, answering in the columns of a model."""

    def __init__(self, judge: Judge, model: AffectModel) -> None:
        self.judge, self.model = judge, model

    def read(self, images: U8) -> tuple[Floats, Floats]:
        """Label rows (B, K + 2), NaN for AUs the judge does not know, and features (B, F) of
        pictures (B, S, S, 3).
        """

        def one(x: Tensor) -> tuple[Tensor, ...]:
            verdict = self.judge.predict(x)
            return verdict.labels, verdict.features

        labels, features = in_batches(self.model, one, images)
        return self.model.card.labels_of.project(
            labels.astype(np.float32), self.judge.vocabulary
        ).astype(np.float64), features

    def control(
        self, asked: Floats, seen: Floats, clusters: NDArray[np.generic], seed: int = 0
    ) -> Control:
        """Asked states (B, K + 2; NaN = not asked) against what the judge saw."""
        card = self.model.card
        weights = metrics.resamplings(clusters, np.random.default_rng(seed))
        aucs: dict[str, Floats] = {}
        for k, code in enumerate(card.vocabulary if card.learns_aus else ()):
            present = np.where(
                np.isnan(asked[:, k]), np.nan, asked[:, k] >= card.data.positive_intensity
            )
            aucs[code] = metrics.auc(present, seen[:, k], weights)
        cccs = {
            name: metrics.ccc(asked[:, i - 2], seen[:, i - 2], weights)
            for i, name in enumerate(DIMENSIONS)
            if card.learns_va
        }
        figures = {
            name: summary(values)
            for name, values in (aucs | cccs).items()
            if np.isfinite(values[0])
        }
        means = [summary(metrics.mean_over_labels(list(kind.values()))) for kind in (aucs, cccs)]
        return Control(figures, *means)


def cross_talk(
    model: AffectModel, evaluator: JudgeEvaluator, generator: Generator
) -> CrossTalk | None:
    """Raise one AU at a time on the same people at rest; None in a run without AUs."""
    aus = model.card.vocabulary
    if not model.card.learns_aus or not aus:
        return None
    rest = np.zeros((1 + len(aus), len(aus) + 2))
    rest[1:, :-2] = RAISED * np.eye(len(aus))
    rest[:, -2:] = np.nan
    people = model.sample_latents(CROSS_TALK_PEOPLE, generator)
    seen = np.stack(
        [evaluator.read(_of_people(model, people, row, generator))[0][:, :-2] for row in rest]
    )  # (1 + K, P, K)
    change = (seen[1:] - seen[:1]).swapaxes(1, 2)  # (K, K, P)
    own = np.eye(len(aus), dtype=bool)
    weights = metrics.resamplings(np.arange(len(people)), np.random.default_rng(0))
    of_person = np.stack(
        [np.nanmean(change[own], axis=0), np.nanmean(np.abs(change[~own]), axis=0)]
    )  # (2, P)
    wanted, unwanted = (summary(weights @ values / weights.sum(1)) for values in of_person)
    return CrossTalk(
        aus,
        tuple(tuple(round(float(v), 4) for v in row) for row in change.mean(2)),
        wanted,
        unwanted,
    )


def circumplex(
    model: AffectModel, evaluator: JudgeEvaluator, generator: Generator
) -> tuple[tuple[CircumplexPoint, ...], Control, tuple[Direction, ...]] | None:
    """Ask for directions of valence and arousal, and nothing else; None in a run without them."""
    if not model.card.learns_va:
        return None
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    places = [(r * np.cos(a), r * np.sin(a)) for r in RADII for a in angles]
    people = model.sample_latents(CIRCUMPLEX_PEOPLE, generator)
    seen = []
    for place in places:
        row = np.full(len(model.card.vocabulary) + 2, np.nan)
        row[-2:] = place
        seen.append(evaluator.read(_of_people(model, people, row, generator))[0][:, -2:])
    points = tuple(
        CircumplexPoint(p, _pair(s.mean(0)), _pair(s.std(0)))
        for p, s in zip(places, seen, strict=True)
    )
    asked = np.full((len(places) * len(people), len(model.card.vocabulary) + 2), np.nan)
    asked[:, -2:] = np.repeat(places, len(people), axis=0)
    rows = np.full_like(asked, np.nan)
    rows[:, -2:] = np.concatenate(seen)
    control = evaluator.control(asked, rows, np.tile(np.arange(len(people)), len(places)))
    return points, control, _directions(np.array(places), np.stack(seen))


def _directions(places: Floats, seen: Floats) -> tuple[Direction, ...]:
    """Reach of every direction from places (D, 2) and what was seen there of P people (D, P, 2),
    from the middle of all readings on.
    """
    centre, weights = (
        seen.mean((0, 1)),
        metrics.resamplings(np.arange(seen.shape[1]), np.random.default_rng(0)),
    )
    gone = ((seen - centre) * places[:, None]).sum(2) / (places**2).sum(1)[:, None]  # (D, P)
    degrees = np.rint(np.degrees(np.arctan2(places[:, 1], places[:, 0]))).astype(int) % 360
    return tuple(
        Direction(int(d), metrics.mean_interval(gone[degrees == d].mean(0), weights))
        for d in np.unique(degrees)
    )


def _of_people(model: AffectModel, people: Tensor, row: Floats, generator: Generator) -> U8:
    """Every person in one asked state (K + 2,)."""
    wish = (
        torch.from_numpy(np.repeat(row[None], len(people), axis=0)).float().to(model.platt.device)
    )
    with torch.inference_mode():
        images = model.to_images(
            model.generate(people, model.sample_labels(model.mask(wish), generator))
        )
    return np.asarray(images.cpu().numpy())


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
    who, floor_who = (real.identity[rows] for rows in sides)
    drawn = rng.permutation(drawn_features)[:count]
    return Distances(
        faces=count,
        frechet=distances.frechet_interval(reference, drawn, rng, real_people=who),
        frechet_floor=distances.frechet_interval(
            reference, floor, rng, real_people=who, drawn_people=floor_who
        ),
        kernel=distances.kernel_interval(reference, drawn, rng),
        kernel_floor=distances.kernel_interval(reference, floor, rng),
        manifold=distances.manifold(reference, drawn, rng, who),
        manifold_floor=distances.manifold(reference, floor, rng, who, floor_who),
    )


def memory(
    database: Database, drawn: U8, unseen: Faces, training_images: int, rng: np.random.Generator
) -> tuple[Memory | None, list[tuple[U8, U8]]]:
    """Nearest training faces of drawn faces and of unseen people, and the closest pairs (drawn,
    training) to look at.
    """
    count = len(database.table("train"))
    if not count:
        return None, []
    rows = np.sort(rng.permutation(count)[:training_images])
    known = database.images("train", rows, THUMBNAIL_PX)
    among = _thumbnails(known)
    drawn_distance, neighbour = distances.nearest(_thumbnails(drawn), among)
    unseen_distance, _ = distances.nearest(_thumbnails(unseen.images), among)
    of = np.concatenate([np.ones(len(drawn)), np.zeros(len(unseen))])
    clusters = np.concatenate(
        [[f"drawn {i}" for i in range(len(drawn))], unseen.identity.astype(str)]
    )
    weights, scale = (
        metrics.resamplings(clusters, rng),
        THUMBNAIL_PX * 3**0.5,
    )  # root mean square per value
    nearer = metrics.auc(of, -np.concatenate([drawn_distance, unseen_distance]), weights)
    drawn_median = metrics.median_interval(drawn_distance / scale, weights[:, : len(drawn)])
    unseen_median = metrics.median_interval(unseen_distance / scale, weights[:, len(drawn) :])
    closest = np.argsort(drawn_distance)[:8]
    full = database.images("train", rows[neighbour[closest]], drawn.shape[1])
    pairs = [(drawn[i], picture) for i, picture in zip(closest, full, strict=True)]
    return Memory(len(rows), drawn_median, unseen_median, summary(nearer)), pairs


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
    start, goal = faces.images[rows], faces.images[faces.twin_of[rows]]
    edited = edit_to(model, start, faces.truth[faces.twin_of[rows]], generator).images
    nothing = _drawn(model, start, lambda x: model.edit(x, model.labels(x)))
    weights = metrics.resamplings(faces.identity[rows], np.random.default_rng(0))
    pairs = ((edited, goal), (start, goal), (nothing, start))
    errors = (np.abs(a.astype(np.float64) - b).mean((1, 2, 3)) / 255 for a, b in pairs)
    return TwinEdit(len(rows), *(summary(weights @ error / weights.sum(1)) for error in errors))


def speed(model: AffectModel) -> dict[str, Interval]:
    """Milliseconds a face on this machine with torch's present threads: median, fastest and slowest
    of SPEED_REPEATS.
    """
    side, generator = model.card.image_px, Generator().manual_seed(0)
    known = (
        model.sample_latents(16, generator),
        torch.zeros(16, len(model.card.vocabulary) + 2, device=model.platt.device),
    )
    x = torch.zeros(16, 3, side, side, device=model.platt.device)

    def read(rows: int) -> Tensor:
        return model.read(x[:rows]).va

    def draw(rows: int) -> Tensor:
        return model.generate(known[0][:rows], known[1][:rows])

    def edit(rows: int) -> Tensor:
        return model.edit(x[:rows], known[1][:rows])

    timings = {}
    for rows in (1, 16):
        timings[f"read, {rows} at once"] = _milliseconds(partial(read, rows), rows)
        timings[f"draw, {rows} at once"] = _milliseconds(partial(draw, rows), rows)
        timings[f"edit, {rows} at once"] = _milliseconds(partial(edit, rows), rows)
    return timings


@torch.inference_mode()
def _milliseconds(work: Callable[[], Tensor], faces: int) -> Interval:
    spent = []
    for _ in range(SPEED_REPEATS + 1):
        start = time.perf_counter()
        work().sum().item()  # .item waits for the device
        spent.append(1000 * (time.perf_counter() - start) / faces)
    return Interval(*(round(float(of(spent[1:])), 3) for of in (np.median, min, max)))


def _pair(values: Floats) -> tuple[float, float]:
    return (round(float(values[0]), 4), round(float(values[1]), 4))
