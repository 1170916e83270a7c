"""Labels a database of photographs by a teacher that learnt from renders (pseudo-labelling, Lee
2013).

Every label comes with a confidence in [0, 1]; both lie in the rows of a new database whose card
says what taught it. Nothing is fitted on the photographs' labels: there are none. Of the
photographs only those that are known to show people at rest help to fit, and of these only the
training split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.labels import DIMENSIONS, POSE, Vocabulary
from training.database.annotations import (
    CONFIDENCE,
    EXPRESSION,
    POSE_DEGREES,
    SIDES,
    read_annotations,
)
from training.database.card import DataCard, DataError
from training.database.copying import samples
from training.database.reader import Database
from training.database.sample import SPLITS, TRAIN, Sample
from training.database.writer import DatabaseWriter, written_shards
from training.renderer.affect_rule import affect_of
from training.teacher.expression import ExpressionOfAus
from training.teacher.points import MeshPoints
from training.teacher.targets import Targets
from training.teacher.teacher import Labels, Meshes, Teacher, teach

Floats = NDArray[np.float64]
LEAST_RELIABILITY = 0.5  # of the columns of pose and sides that are handed on
DECIMALS = 4
LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]


@dataclass(frozen=True)
class MeshRows:
    """All rows of a database with a mesh, in the order of `training.database.copying.samples`."""

    keys: tuple[str, ...]
    points: Floats  # (N, M, 3)
    split: NDArray[np.str_]  # (N,)
    neutral: NDArray[np.bool_]  # (N,) known to show people at rest
    images: NDArray[np.uint8]  # (N, S, S, 3)


@dataclass(frozen=True)
class TeachingReport:
    """The counts of a labelling, and how reliable the teacher is."""

    photographs: int
    labelled: int
    reliability: dict[str, float]  # correlation with the truth on renders of other people
    alarms: dict[str, float]  # share of neutral people not fitted on, whose AU is called present
    present: dict[str, float]  # share of all labelled photographs
    neutral: int  # people that `alarms` counts

    def __str__(self) -> str:
        lines = [
            f"labelled {self.labelled:,} of {self.photographs:,} photographs",
            f"{'label':<28}{'r':>7}{'present':>9}{f'of {self.neutral} neutral':>15}",
        ]
        for name, r in self.reliability.items():
            rows = (
                f"{self.present[name]:>9.1%}{self.alarms[name]:>15.1%}"
                if name in self.present
                else ""
            )
            lines.append(f"{name:<28}{r:>7.3f}{rows}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Request:
    """What to learn from, what to label, and where to."""

    renders: Path
    points: Path
    photos: Path
    photo_points: Path
    out: Path
    neutral: Path | None = None  # names of pictures that show people at rest, or patterns, by line
    student: Path | None = None  # a model whose own readings make half of each label


def teach_photographs(request: Request) -> TeachingReport:
    """Fit a teacher on renders and write the photographs with its labels. Raises DataError."""
    if written_shards(request.out) if request.out.is_dir() else False:
        raise DataError(f"{request.out} holds a database already: give another --out")
    renders, photos = Database.open(request.renders), Database.open(request.photos)
    targets = Targets(renders.card.vocabulary)
    train, *held_out = (_renders(renders, request.points, s, targets) for s in SPLITS)
    photographs = _photographs(photos, request.photo_points, _patterns(request.neutral))
    fitted_on = photographs.neutral & (photographs.split == TRAIN)
    if request.neutral and not fitted_on.any():
        raise DataError(
            f"no photograph of the training split is named in {request.neutral}: "
            "write one picture or pattern a line, e.g. neutral/*"
        )
    teacher = teach(targets, train, (held_out[0], held_out[1]), photographs.points[fitted_on])
    labels = _with_rule(teacher.label(photographs.points), targets)
    if request.student is not None:
        labels = mixed(labels, _readings(request.student, photographs.images, targets), targets)
    expression = ExpressionOfAus.fit(renders)
    card = _card(photos.card, renders, request, int(fitted_on.sum()), len(train.points))
    with DatabaseWriter(request.out, card) as writer:
        for sample in _labelled(photos, photographs, labels, teacher, expression):
            writer.add(sample)
    return _report(photos, renders.card.positive_intensity, photographs, labels, teacher)


def mixed(teacher: Labels, student: Floats, targets: Targets) -> Labels:
    """Half the teacher's AUs, valence and arousal, half the student's (N, K + 2), brought to the
    teacher's mean and deviation first: a student's scale is not fitted to photographs yet.
    """
    columns = slice(0, targets.va.stop)
    teacher_values = teacher.values[:, columns]
    spread = teacher_values.std(0) / np.maximum(student.std(0), 1e-6)
    scaled = (student - student.mean(0)) * spread + teacher_values.mean(0)
    low = np.where(np.arange(columns.stop) < targets.au.stop, 0.0, -1.0)
    values = teacher.values.copy()
    values[:, columns] = np.clip((teacher_values + scaled) / 2, low, 1.0)
    return replace(teacher, values=values)


def _renders(database: Database, points: Path, split: str, targets: Targets) -> Meshes:
    table = database.table(split, ["key"])
    has_mesh, meshes = MeshPoints.load(points).of(table["key"].to_pylist())
    if not has_mesh.any():
        raise DataError(
            f"{points} has no mesh for the {split} split of {database.folder}: "
            "make it with `make mesh` from this database"
        )
    target_values = targets.of(database.labels(split), read_annotations(database, split))
    return Meshes(meshes[has_mesh].astype(np.float64), target_values[has_mesh])


def _patterns(path: Path | None) -> list[str]:
    if path is None:
        return []
    if not path.is_file():
        raise DataError(f"--neutral is {path}, which is no file: name a picture or pattern a line")
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _photographs(database: Database, path: Path, neutral: Sequence[str]) -> MeshRows:
    points = MeshPoints.load(path)
    keys: list[str] = []
    parts: dict[str, list[NDArray[np.generic]]] = {"points": [], "split": [], "neutral": []}
    images = []
    for split in SPLITS:
        table = database.table(split, ["key"])
        names = table["key"].to_pylist()
        pictures = [str(truth.get("picture", "")) for truth in database.truth(split)]
        has_mesh, meshes = points.of(names)
        if not has_mesh.any():  # points of the pictures that the crops were cut from
            has_mesh, meshes = points.of(pictures)
        rows = np.flatnonzero(has_mesh)
        keys += [names[row] for row in rows]
        parts["points"].append(meshes[rows].astype(np.float64))
        parts["split"].append(np.full(len(rows), split))
        is_neutral = [any(fnmatch(pictures[row], name) for name in neutral) for row in rows]
        parts["neutral"].append(np.array(is_neutral, bool))
        images.append(database.images(split, rows, database.card.image_px))
    if not keys:
        raise DataError(f"{path} has no mesh for any picture of {database.folder}")
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    return MeshRows(tuple(keys), images=np.concatenate(images), **joined)


def _with_rule(labels: Labels, targets: Targets) -> Labels:
    """Valence and arousal are half what the mesh says directly, half what the rule makes of the
    AUs.
    """
    ruled = np.array([affect_of_row(row, targets) for row in labels.values])
    direct = labels.values[:, targets.va]
    values, confidence = labels.values.copy(), labels.confidence.copy()
    values[:, targets.va] = (ruled + direct) / 2
    confidence[:, targets.va] *= np.exp(-0.5 * (ruled - direct) ** 2)
    return Labels(values, confidence)


def affect_of_row(row: Floats, targets: Targets) -> tuple[float, float]:
    """Valence and arousal of one row (T,) by the renderer's rule."""
    by_code = dict(zip(targets.aus, (float(v) for v in row[targets.au]), strict=True))
    tilt = dict(zip(targets.one_sided, row[targets.sides], strict=True))
    left = {code: by_code[code] + tilt[code] / 2 for code in tilt}
    right = {code: by_code[code] - tilt[code] / 2 for code in tilt}
    return affect_of(by_code, left, right)


def _readings(model: Path, images: NDArray[np.uint8], targets: Targets) -> Floats:
    """(N, K + 2) of a model, in the teacher's columns."""
    import torch

    from affect.factory import load_model

    student = load_model(model)
    if missing := sorted(set(targets.aus) - set(student.card.vocabulary)):
        raise DataError(f"{model} does not read {', '.join(missing)}: it cannot be the student")
    read = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            part = torch.from_numpy(images[start : start + 32])
            read.append(student.labels(student.to_pixels(part)).numpy())
    student_vocabulary = Vocabulary(student.card.vocabulary)
    columns = [student_vocabulary.index(name) for name in (*targets.aus, *DIMENSIONS)]
    return np.concatenate(read).astype(np.float64)[:, columns]


def _card(
    photos: DataCard, renders: Database, request: Request, anchors: int, count: int
) -> DataCard:
    method = (
        "ridge and a small network from MediaPipe's face mesh (0.10.21, Apache-2.0) to "
        "the true labels "
        f"of {count:,} renders ({renders.card.name}, renderer "
        f"{renders.card.renderer[:12] or 'unknown'})"
    )
    method += f", rest set by {anchors} neutral photographs" if anchors else ""
    method += f", half of each label by {request.student.name}" if request.student else ""
    return DataCard(
        name=f"{photos.name}-taught",
        vocabulary=renders.card.vocabulary,
        image_px=photos.image_px,
        sources=photos.sources,
        licence=photos.licence,
        positive_intensity=renders.card.positive_intensity,
        labelled=f"photographs with pseudo-labels, annotated by nobody: {method}",
        teacher=method,
    )


def _labelled(
    photos: Database,
    photographs: MeshRows,
    labels: Labels,
    teacher: Teacher,
    expression: "ExpressionOfAus | None",
) -> Iterator[Sample]:
    """All photographs, those with a mesh labelled."""
    rows = {key: row for row, key in enumerate(photographs.keys)}
    unknown = np.full(len(teacher.targets.aus) + 2, np.nan, np.float32)
    for sample in samples(photos):
        row = rows.get(sample.key)
        unlabelled = replace(sample, image=_lossless(sample.image), labels=unknown)
        if row is not None:
            values = labels.values[row]
            truth = truth_of(values, labels.confidence[row], teacher, expression)
            unlabelled = replace(
                unlabelled,
                labels=values[: len(unknown)].round(DECIMALS).astype(np.float32),
                truth=unlabelled.truth | truth,
            )
        yield unlabelled


def truth_of(
    values: Floats, confidence: Floats, teacher: Teacher, expression: "ExpressionOfAus | None"
) -> dict[str, object]:
    """The `truth` of one photograph (T,): confidence, pose, sides, expression."""
    targets = teacher.targets
    truth: dict[str, object] = {}
    names = (*targets.aus, *DIMENSIONS)
    truth[CONFIDENCE] = _named(names, confidence[: len(names)])
    if (teacher.reliability[targets.pose] >= LEAST_RELIABILITY).all():
        truth[POSE_DEGREES] = _named(POSE, values[targets.pose])
    sure = teacher.reliability[targets.sides] >= LEAST_RELIABILITY
    by_code = dict(zip(targets.aus, values[targets.au], strict=True))
    tilted = [
        (code, tilt)
        for code, tilt, use in zip(targets.one_sided, values[targets.sides], sure, strict=True)
        if use
    ]
    if tilted:
        truth[SIDES] = {
            side: {
                code: round(float(np.clip(by_code[code] + sign * tilt, 0, 1)), DECIMALS)
                for code, tilt in tilted
            }
            for side, sign in (("left", 0.5), ("right", -0.5))
        }
    if expression is not None and (name := expression.of(values[targets.au])):
        truth[EXPRESSION] = name
    return truth


def _named(names: Sequence[str], values: Floats) -> dict[str, float]:
    return {name: round(float(v), DECIMALS) for name, v in zip(names, values, strict=True)}


def _lossless(content: bytes) -> bytes:
    """The same pixels as WebP: two thirds of a PNG."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    succeeded, encoded = cv2.imencode(".webp", pixels, LOSSLESS)
    assert succeeded
    return encoded.tobytes()


def _report(
    photos: Database, threshold: float, photographs: MeshRows, labels: Labels, teacher: Teacher
) -> TeachingReport:
    targets = teacher.targets
    present = labels.values[:, targets.au] >= threshold
    unseen = photographs.neutral & (photographs.split != TRAIN)
    return TeachingReport(
        photographs=len(photos),
        labelled=len(photographs.keys),
        reliability=dict(zip(targets.names, teacher.reliability.tolist(), strict=True)),
        alarms=dict(
            zip(
                targets.aus,
                present[unseen].mean(0).tolist()
                if unseen.any()
                else [float("nan")] * len(targets.aus),
                strict=True,
            )
        ),
        present=dict(zip(targets.aus, present.mean(0).tolist(), strict=True)),
        neutral=int(unseen.sum()),
    )
