"""The limit of what a server can do: decoding, finding and reading in one process, nothing else."""

import time
from pathlib import Path

import cv2
import numpy as np
import torch

from affect.allocator import keep_freed_memory
from affect.batches import predict
from affect.faces import FaceFinder, Faces, crops
from affect.factory import load_model
from affect.images import checked_header
from affect.runtime import choose_local_runtime

BATCH = 8  # faces read together
SIZES = (1, 2, 4, 8)


def work_unserved(
    weights: Path, content: bytes, faces: Faces, seconds: float
) -> tuple[float, float]:
    """Pictures/s on one thread, and CPU of one in ms."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    keep_freed_memory()
    model, finder = load_model(weights), FaceFinder()
    choose_local_runtime(model)

    def batch() -> None:
        cropped = [
            crops(finder, checked_header(content), faces=faces, size_px=model.card.image_px)[0][1]
            for _ in range(BATCH)
        ]
        predict(model, np.stack(cropped), SIZES)

    batch()
    start, cpu, done = time.monotonic(), time.process_time(), 0
    while time.monotonic() < start + seconds:
        batch()
        done += BATCH
    return done / (time.monotonic() - start), 1000 * (time.process_time() - cpu) / done
