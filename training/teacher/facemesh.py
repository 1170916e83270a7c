"""Puts MediaPipe's face mesh on every picture of a database or a folder (`make mesh`).

It runs in an environment of its own: MediaPipe's wheel 0.10.21 (Apache-2.0, models inside) needs
another numpy than training does. Nothing that trains or serves imports this file.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import mediapipe
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from affect.images import ImageError, decode
from training.database.card import CARD_FILE
from training.database.reader import Database
from training.teacher.points import POINTS, MeshPoints

U8 = NDArray[np.uint8]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ROOM = 0.25  # of the side, added around aligned crops: the finder wants to see where a face ends
LEAST_CONFIDENCE = 0.3


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a database, or a folder of pictures")
    parser.add_argument("out", type=Path, help="the Parquet file of points")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists: delete it or name another file")
    points = mesh_of(arguments.data)
    points.save(arguments.out)
    print(f"wrote {arguments.out}: a face in {points.found.sum()} of {len(points.names)} pictures")


def mesh_of(data: Path) -> MeshPoints:
    """Meshes of all pictures of a database or a folder; a broken picture counts as one without."""
    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True,
        max_num_faces=1,
        refine_landmarks=True,
        min_detection_confidence=LEAST_CONFIDENCE,
    )
    names, sizes, points = [], [], []
    is_database = (data / CARD_FILE).is_file()
    for name, image in tqdm(_of_database(data) if is_database else _of_folder(data), unit="img"):
        names.append(name)
        sizes.append(image.shape[1::-1])
        points.append(_points(mesh, image, ROOM if is_database else 0.0))
    stacked = np.stack(points)
    is_found = np.asarray(np.isfinite(stacked).all((1, 2)))
    return MeshPoints(tuple(names), is_found, np.array(sizes, np.int32), stacked)


def _of_database(folder: Path) -> Iterator[tuple[str, U8]]:
    database = Database.open(folder)
    index = database.whole(("key", "shard", "offset", "size"))
    for row in index.to_pylist():
        location = (row["shard"], row["offset"], row["size"], database.card.image_px)
        yield row["key"], database.read_image(*location)


def _of_folder(folder: Path) -> Iterator[tuple[str, U8]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            try:
                yield path.relative_to(folder).as_posix(), decode(path.read_bytes())
            except ImageError as error:
                print(f"{path.name}: {error}")


def _points(mesh: object, image: U8, room: float) -> NDArray[np.float32]:
    """(M, 3) in shares of the picture's longer side; NaN where no face was found."""
    height, width = image.shape[:2]
    border = round(room * max(width, height))
    if border:
        borders = (border, border, border, border)
        image = np.asarray(cv2.copyMakeBorder(image, *borders, cv2.BORDER_REPLICATE), np.uint8)
    result = mesh.process(np.ascontiguousarray(image))  # type: ignore[attr-defined]
    faces = result.multi_face_landmarks
    if not faces:
        return np.full((POINTS, 3), np.nan, np.float32)
    shares = np.array([(p.x, p.y, p.z) for p in faces[0].landmark])
    px = shares * (image.shape[1], image.shape[0], image.shape[1]) - (border, border, 0)
    return np.asarray(px / max(width, height), np.float32)


if __name__ == "__main__":
    main()
