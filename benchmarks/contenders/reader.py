"""What every contender does: decode a picture, find and align its face, read the batch in one
forward pass, return it as plain values.
"""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from affect.allocator import keep_freed_memory
from affect.batches import predict
from affect.faces import Face, FaceFinder, crops
from affect.factory import load_model
from affect.images import checked_header
from affect.protocol.messages import U8
from affect.runtime import choose_local_runtime

WEIGHTS = "BENCHMARK_WEIGHTS"  # environment variable: the folder of the model
WORKERS = "BENCHMARK_WORKERS"  # environment variable: processes with a model
BATCH = 32  # requests at most, as our archives have it
BATCH_SECONDS = 0.001  # a batch may wait to fill
SIZES = (1, 2, 4, 8, 16, 32)  # of a forward pass, as our archives have them
AlignedFace = tuple[Face | None, U8]


class Reader:
    """The model of $BENCHMARK_WEIGHTS in this process, on one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        keep_freed_memory()
        self.model, self.finder = load_model(Path(os.environ[WEIGHTS])), FaceFinder()
        choose_local_runtime(self.model)
        side = self.model.card.image_px
        for size in SIZES:
            self.read([(None, np.zeros((side, side, 3), np.uint8))] * size)

    def find(self, content: bytes) -> AlignedFace:
        """The largest face of a picture, aligned (S, S, 3). Raises ImageError, NoFaceError."""
        return crops(self.finder, checked_header(content), size_px=self.model.card.image_px)[0]

    def read(self, faces: list[AlignedFace]) -> list[dict[str, Any]]:
        """What is read off each face, for JSON."""
        read = predict(self.model, np.stack([pixels for _, pixels in faces]), SIZES)
        names = self.model.card.labels_of.names
        return [
            {
                "face": face and np.asarray(face.points).tolist(),
                "labels": list(names),
                "intensity": read.intensity[row].tolist(),
                "probability": read.probability[row].tolist(),
                "present": read.present[row].tolist(),
                "va": read.va[row].tolist(),
                "realism": read.realism[row].tolist(),
            }
            for row, (face, _) in enumerate(faces)
        ]
