"""Whether a counterfactual still shows the same person, by a face-recognition network that has
nothing to do with this project (dlib's ResNet: 128 numbers a face; two faces nearer than .6 are
taken for one person, which was right on 99.38 % of the pairs of Labeled Faces in the Wild).

python -m experiments.identity ask --data D --faces 100 --out P.npz
.venv-identity/bin/python -m experiments.identity compare P.npz          (make identity)

The first writes pictures, answered by the shipped weights; the second runs in an environment of
its own: dlib's wheel (Boost licence) and `face_recognition_models` (CC0), which carries the
networks. Nothing that trains or serves imports this file. N faces, S side in px.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
Floats = NDArray[np.float64]
NETWORK, POINTS = (
    "dlib_face_recognition_resnet_model_v1.dat",
    "shape_predictor_5_face_landmarks.dat",
)
SAME_PERSON = 0.6  # distance, as the network was trained
SIDE_PX, ROOM = 256, 0.35  # crops are enlarged, and mirrored at their edges by this share
BOX = (0.1, 0.16, 0.9, 0.96)  # of a crop: where dlib's finder would put a face


def ask_about(weights: Path, data: Path, count: int, out: Path) -> None:
    """Faces, their counterfactuals, and other pictures of the same people where there are some."""
    from affect.factory import load_model
    from training.database.reader import Database
    from training.evaluation.core.predictions import load_faces
    from training.evaluation.explanation.questions import ask

    model, rng = load_model(weights), np.random.default_rng(0)
    faces = load_faces(Database.open(data), model, "test", 6 * count, rng)
    chosen = np.sort(rng.permutation(len(faces))[:count])
    questions = ask(model, faces.take(chosen), rng)
    twin = faces.twin_of[chosen]
    np.savez(
        out,
        faces=questions.faces.images,
        counterfactuals=questions.counterfactuals,
        valid=np.array([one.valid for one in questions.answers]),
        has_twin=twin >= 0,
        twins=faces.images[np.maximum(twin, 0)],
        person=faces.identity[chosen].astype(str),
    )


class Recogniser:
    """dlib's recognition network on aligned crops."""

    def __init__(self) -> None:
        import dlib

        spec = find_spec("face_recognition_models")
        if spec is None or not spec.origin:
            raise SystemExit("face_recognition_models is missing: run `make identity`")
        models, (left, top, right, bottom) = Path(spec.origin).parent / "models", BOX
        self.network = dlib.face_recognition_model_v1(str(models / NETWORK))
        self.points = dlib.shape_predictor(str(models / POINTS))
        edge = round(SIDE_PX * ROOM)
        corners = (edge + round(SIDE_PX * share) for share in (left, top, right, bottom))
        self.box, self.edge = dlib.rectangle(*corners), edge

    def embed(self, images: U8) -> Floats:
        """(N, 128) of crops (N, S, S, 3)."""
        return np.stack([self._one(image) for image in images])

    def _one(self, image: U8) -> Floats:
        large = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
        edges = (self.edge,) * 4
        roomy = np.ascontiguousarray(cv2.copyMakeBorder(large, *edges, cv2.BORDER_REFLECT_101))
        points = self.points(roomy, self.box)
        return np.array(self.network.compute_face_descriptor(roomy, points))


def compare(path: Path) -> None:
    """Print distances of pairs: the same picture changed a little, twins, counterfactuals, and
    other people.
    """
    stored, recogniser = np.load(path), Recogniser()
    faces, changed = (recogniser.embed(stored[name]) for name in ("faces", "counterfactuals"))
    person = stored["person"]
    mirrored = recogniser.embed(np.ascontiguousarray(stored["faces"][:, :, ::-1]))
    _print_row("the mirror image", faces, mirrored)
    if stored["has_twin"].any():
        have = stored["has_twin"]
        _print_row(
            "another picture of the person", faces[have], recogniser.embed(stored["twins"][have])
        )
    _print_row("its counterfactual", faces, changed)
    _print_row("its counterfactual, valid ones", faces[stored["valid"]], changed[stored["valid"]])
    first, second = np.triu_indices(len(faces), 1)
    other = person[first] != person[second]
    _print_row("other people", faces[first[other]], faces[second[other]])


def _print_row(what: str, first: Floats, second: Floats) -> None:
    apart = np.linalg.norm(first - second, axis=1)
    low, middle, high = np.quantile(apart, (0.05, 0.5, 0.95))
    print(
        f"{what:32} {len(apart):6}  same person {float((apart < SAME_PERSON).mean()):.3f}  "
        f"distance {middle:.3f} (5th {low:.3f}, 95th {high:.3f})"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask", help="answers, in the project's own environment")
    asking.add_argument("--weights", type=Path, default=Path("weights"))
    asking.add_argument("--data", type=Path, required=True)
    asking.add_argument("--faces", type=int, default=100)
    asking.add_argument("--out", type=Path, required=True)
    comparing = commands.add_parser("compare", help="distances, in an environment with dlib")
    comparing.add_argument("pictures", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        compare(given.pictures)
    elif given.out.exists():
        parser.error(f"{given.out} exists: delete it or name another file")
    else:
        ask_about(given.weights, given.data, given.faces, given.out)


if __name__ == "__main__":
    main()
