"""From mesh to labels: ridge and a small network, fitted on renders, each asked with the mirrored
mesh too.

Shape letters: N faces, M = 478 points, F features, T target columns (`training.teacher.targets`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import nn

from training.teacher.shape import Normaliser

Floats = NDArray[np.float64]
COMPONENTS = 120
RIDGE = 30.0  # penalty on standardised features
HIDDEN = (192, 96)
EPOCHS = 25
BATCH_FACES = 256
LEARNING_RATE = 4e-3
MIRRORED_TURN = (1.0, -1.0, -1.0)


@dataclass(frozen=True)
class TeacherFaces:
    """Normalised meshes: shapes (N, 3 M) and turns (N, 3) in radians."""

    shapes: Floats
    turns: Floats

    def mirrored(self, normaliser: Normaliser) -> "TeacherFaces":
        """The same faces in a mirror."""
        return TeacherFaces(normaliser.mirrored(self.shapes), self.turns * MIRRORED_TURN)


@dataclass(frozen=True)
class Regression:
    """Both regressors over the same standardised features."""

    normaliser: Normaliser
    pca: PCA
    middle: Floats  # (F,)
    spread: Floats  # (F,)
    weights: Floats  # (F, T) of the ridge
    bias: Floats  # (T,)
    scale: Floats  # (T,) of the network's outputs
    network: nn.Module
    signs: Floats  # (T,)

    def predict(self, faces: TeacherFaces) -> tuple[Floats, Floats]:
        """(N, T) of the ridge and of the network: means over each face and its mirror image."""
        views = (faces, faces.mirrored(self.normaliser))
        answers = [self._predict(self.features(view)) for view in views]
        (ridge, net), (ridge_mirrored, net_mirrored) = answers
        return (
            (ridge + self.signs * ridge_mirrored) / 2,
            (net + self.signs * net_mirrored) / 2,
        )

    def features(self, faces: TeacherFaces) -> Floats:
        """(N, F) principal components and turn, standardised over the renders."""
        raw = np.concatenate([self.pca.transform(faces.shapes), faces.turns], axis=1)
        return np.asarray((raw - self.middle) / self.spread)

    @torch.no_grad()
    def _predict(self, features: Floats) -> tuple[Floats, Floats]:
        ridge = features @ self.weights + self.bias
        net = self.network(torch.from_numpy(features.astype(np.float32))).numpy()
        return ridge, np.asarray(net * self.scale + self.bias, np.float64)


def fit(
    faces: TeacherFaces, targets: Floats, normaliser: Normaliser, signs: Floats, *, seed: int = 0
) -> Regression:
    """Fit both on faces and their mirror images; targets (N, T), NaN where unknown."""
    mirrored = faces.mirrored(normaliser)
    with_mirrored = TeacherFaces(
        *(
            np.concatenate([getattr(faces, name), getattr(mirrored, name)])
            for name in ("shapes", "turns")
        )
    )
    all_targets = np.concatenate([targets, targets * signs])
    count = min(COMPONENTS, *faces.shapes.shape)
    pca = PCA(count, svd_solver="randomized", random_state=seed).fit(faces.shapes)
    raw = np.concatenate([pca.transform(with_mirrored.shapes), with_mirrored.turns], axis=1)
    middle, spread = raw.mean(0), raw.std(0) + 1e-9
    features = (raw - middle) / spread
    weights, bias = _ridge(features, all_targets)
    columns = (values[np.isfinite(values)] for values in all_targets.T)
    scale = (
        np.array([known_values.std() if len(known_values) else 0.0 for known_values in columns])
        + 1e-6
    )
    network = _network(features, (all_targets - bias) / scale, seed)
    return Regression(normaliser, pca, middle, spread, weights, bias, scale, network, signs)


def _ridge(features: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Hoerl & Kennard 1970, column by column over the rows that know it."""
    width = features.shape[1]
    weights, bias = np.zeros((width, targets.shape[1])), np.zeros(targets.shape[1])
    for column, values in enumerate(targets.T):
        is_known = np.isfinite(values)
        if is_known.any():
            x, mean = features[is_known], features[is_known].mean(0)
            gram = (x - mean).T @ (x - mean) + RIDGE * np.eye(width)
            centre = values[is_known].mean()
            weights[:, column] = np.linalg.solve(gram, (x - mean).T @ (values[is_known] - centre))
            bias[column] = centre - mean @ weights[:, column]
    return weights, bias


def _network(features: Floats, targets: Floats, seed: int) -> nn.Module:
    """Two hidden layers by AdamW in one cycle of the learning rate; unknown targets weigh
    nothing.
    """
    rng, steps = np.random.default_rng(seed), max(EPOCHS * len(features) // BATCH_FACES, 100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(features.shape[1], HIDDEN[0]),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(HIDDEN[0], HIDDEN[1]),
            nn.GELU(),
            nn.Linear(HIDDEN[1], targets.shape[1]),
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
        x, is_known = torch.from_numpy(features.astype(np.float32)), np.isfinite(targets)
        y = torch.from_numpy(np.where(is_known, targets, 0.0).astype(np.float32))
        mask = torch.from_numpy(is_known.astype(np.float32))
        for _ in range(steps):
            rows = torch.from_numpy(rng.integers(0, len(x), BATCH_FACES))
            squared_error = (network(x[rows]) - y[rows]) ** 2 * mask[rows]
            optimiser.zero_grad()
            squared_error.mean().backward()
            optimiser.step()
            schedule.step()
    return network.eval()
