"""The teacher: fitted on renders whose labels are true, adapted to photographs, with a confidence
for each label. Three differences between renders and photographs are corrected here, in this order:
the resting shape (mean shape of neutral people), the shrinkage of predictions towards the mean
(inverse regression), and the intensity of an AU that is read on a resting face (a floor).

Shape letters: N faces, M = 478 points, T target columns (`training.teacher.targets`), K Action
Units.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.teacher.regression import Regression, TeacherFaces, fit
from training.teacher.shape import Normaliser
from training.teacher.targets import Targets

Floats = NDArray[np.float64]
LEAST_SLOPE = 0.35  # predictions are stretched by at most the inverse of it
RESTING = 0.1  # renders with no AU above it are at rest
FLOOR_QUANTILE = 0.9  # of an AU on neutral people: what is read there is no movement
FLOOR_KEPT = 0.1  # of it, so that most neutral people are read as so much or less
KNEE = 0.8  # AUs above it come closer and closer to 1
PLAUSIBLE = 0.95  # quantile of the renders' distances up to which a mesh is like theirs


@dataclass(frozen=True)
class Meshes:
    """Meshes of N faces (N, M, 3) and what is known of each (N, T), NaN unknown."""

    points: Floats
    targets: Floats


@dataclass(frozen=True)
class Labels:
    """The teacher's labels of N faces: values and confidence in [0, 1], each (N, T)."""

    values: Floats
    confidence: Floats


@dataclass(frozen=True)
class Teacher:
    """Everything that was fitted."""

    targets: Targets
    regression: Regression
    start: Floats  # (T,) of the line from truth to prediction, on held-out renders
    slope: Floats  # (T,)
    reliability: Floats  # (T,) correlation with the truth on other held-out renders
    spread: Floats  # (T,) rms difference of the two regressors there
    reach: float  # distance from the renders' mean that PLAUSIBLE of them stay within
    offset: Floats  # (3 M,) mean shape of neutral people less that of resting renders
    floor: Floats  # (T,) what of a value is taken for rest; 0 but for AUs

    def label(self, points: Floats) -> Labels:
        """Labels of meshes (N, M, 3)."""
        faces = self._faces(points)
        ridge, net = (self._stretched(part) for part in self.regression.predict(faces))
        low, high = self._range()
        values = self._kept_in_order(self._above_floor((ridge + net) / 2))
        # Predictions beyond the range are clipped, so that they count as agreement.
        disagreement = np.clip(ridge, low, high) - np.clip(net, low, high)
        agreement = np.exp(-0.5 * (disagreement / (2 * self.spread + 1e-9)) ** 2)
        plausible = np.minimum(1, self.reach / np.maximum(self._distance(faces), 1e-9))
        confidence = np.clip(self.reliability, 0, 1) * agreement * plausible[:, None]
        return Labels(np.clip(values, low, high), confidence)

    def _faces(self, points: Floats) -> TeacherFaces:
        shapes, turns = self.regression.normaliser.shapes(points)
        return TeacherFaces(shapes - self.offset, turns)

    def _stretched(self, predicted: Floats) -> Floats:
        return np.asarray((predicted - self.start) / np.maximum(self.slope, LEAST_SLOPE))

    def _above_floor(self, values: Floats) -> Floats:
        return np.asarray((values - self.floor) / (1 - self.floor))

    def _kept_in_order(self, values: Floats) -> Floats:
        """AUs that people show more of than any render end at 1, the more the nearer."""
        aus, capped = values[:, self.targets.au], values.copy()
        beyond = np.maximum(aus - KNEE, 0) / (2 * (1 - KNEE))
        capped[:, self.targets.au] = np.minimum(aus, KNEE) + (1 - KNEE) * (1 - np.exp(-beyond))
        return capped

    def _range(self) -> tuple[Floats, Floats]:
        low, high = np.full(len(self.slope), -1.0), np.ones(len(self.slope))
        low[self.targets.au] = 0.0
        low[self.targets.pose], high[self.targets.pose] = -90.0, 90.0
        return low, high

    def _distance(self, faces: TeacherFaces) -> Floats:
        """(N,) root mean square of the standardised features."""
        return np.asarray(np.sqrt((self.regression.features(faces) ** 2).mean(1)))


def teach(
    targets: Targets, train: Meshes, held_out: tuple[Meshes, Meshes], neutral: Floats
) -> Teacher:
    """Fit on renders; lines from the first held-out set, reliability from the second.

    `neutral` (n, M, 3) are meshes of photographs that show people at rest, n may be 0.
    """
    normaliser = Normaliser.fit(train.points)
    faces = TeacherFaces(*normaliser.shapes(train.points))
    regression = fit(faces, train.targets, normaliser, targets.signs)
    count = len(targets.names)
    plain = Teacher(
        targets=targets,
        regression=regression,
        start=np.zeros(count),
        slope=np.ones(count),
        reliability=np.zeros(count),
        spread=np.ones(count),
        reach=np.inf,
        offset=np.zeros(train.points.shape[1] * 3),
        floor=np.zeros(count),
    )
    lined = _with_lines(plain, held_out[0])
    doubted = _with_reliability(lined, held_out[1])
    resting = (train.targets[:, targets.au] < RESTING).all(1)
    return _moved_to_people(doubted, faces.shapes[resting], neutral) if len(neutral) else doubted


def _with_lines(teacher: Teacher, held_out: Meshes) -> Teacher:
    """Prediction = start + slope * truth, by least squares for each column.

    Valence and arousal are not stretched: that would amplify the noise of a resting face.
    """
    predicted = np.mean(teacher.regression.predict(teacher._faces(held_out.points)), axis=0)
    start, slope = np.zeros(predicted.shape[1]), np.ones(predicted.shape[1])
    columns_of_va = range(*teacher.targets.va.indices(len(start)))
    for column, (truth, prediction) in enumerate(zip(held_out.targets.T, predicted.T, strict=True)):
        is_known = np.isfinite(truth)
        if column not in columns_of_va and is_known.sum() > 2 and np.ptp(truth[is_known]) > 0:
            slope[column], start[column] = np.polyfit(truth[is_known], prediction[is_known], 1)
    return replace(teacher, start=start, slope=slope)


def _with_reliability(teacher: Teacher, held_out: Meshes) -> Teacher:
    """How well each column follows the truth, how far the regressors differ, how far meshes lie
    out.
    """
    faces = teacher._faces(held_out.points)
    ridge, net = (teacher._stretched(part) for part in teacher.regression.predict(faces))
    mean = (ridge + net) / 2
    reliability = np.zeros(mean.shape[1])
    for column, (truth, prediction) in enumerate(zip(held_out.targets.T, mean.T, strict=True)):
        is_known = np.isfinite(truth)
        if is_known.sum() > 2 and np.ptp(truth[is_known]) > 0:
            reliability[column] = np.corrcoef(truth[is_known], prediction[is_known])[0, 1]
    return replace(
        teacher,
        reliability=reliability,
        spread=np.sqrt(((ridge - net) ** 2).mean(0)),
        reach=float(np.quantile(teacher._distance(faces), PLAUSIBLE)),
    )


def _moved_to_people(teacher: Teacher, resting: Floats, neutral: Floats) -> Teacher:
    """Shift the resting state to that of neutral people and their mirror images: in shape, valence,
    arousal, AUs.
    """
    normaliser = teacher.regression.normaliser
    shapes, _ = normaliser.shapes(neutral)
    photographs_mean = np.concatenate([shapes, normaliser.mirrored(shapes)]).mean(0)
    renders = np.concatenate([resting, normaliser.mirrored(resting)]).mean(0)
    shifted = replace(teacher, offset=photographs_mean - renders)
    parts = shifted.regression.predict(shifted._faces(neutral))
    readings = np.mean([shifted._stretched(part) for part in parts], axis=0)
    start, va = shifted.start.copy(), teacher.targets.va
    start[va] += readings[:, va].mean(0) * np.maximum(shifted.slope[va], LEAST_SLOPE)
    floor = np.zeros(len(teacher.floor))
    highest = np.quantile(readings[:, teacher.targets.au], FLOOR_QUANTILE, axis=0)
    floor[teacher.targets.au] = np.clip(highest - FLOOR_KEPT, 0, 0.5)
    return replace(shifted, start=start, floor=floor)
