"""MediaPipe's BlazeFace, short range: heads that cascades miss, above all those turned to a side.

Bazarevsky et al. 2019, "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", arXiv
1907.05047. The network (affect/data/face_detection_short_range.tflite, Apache-2.0, out of the npm
package @mediapipe/face_detection 0.4.1657300184) looks at the whole picture at 128 px, and says of
896 anchors whether a face is there and how far from them.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.cascade import Square
from affect.dnn import ThreadLocalNetwork

U8 = NDArray[np.uint8]
Floats = NDArray[np.floating]

NETWORK_FILE = Path(__file__).with_name("data") / "face_detection_short_range.tflite"
INPUT_PX = 128
GRIDS = ((16, 2), (8, 6))  # places along a side, and anchors at each of them
OUTPUTS = ("classificators", "regressors")
LEAST_SCORE = 0.5  # as MediaPipe has it
SAME_FACE = 0.3  # boxes that share as much of their union are one face


class BlazeFace:
    """The network. Thread-safe."""

    def __init__(self, path: Path = NETWORK_FILE) -> None:
        self._network = ThreadLocalNetwork(
            path, cv2.dnn.readNetFromTFLite, "install the package again"
        )

    def boxes(self, image: U8) -> list[Square]:
        """Boxes of faces in an RGB picture (H, W, 3), the surest first."""
        canvas, scale = _canvas(image)
        network = self._network()
        network.setInput(np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32))
        scores, moves = (np.asarray(one)[0] for one in network.forward(OUTPUTS))
        likely = 1 / (1 + np.exp(-scores[:, 0].clip(-50, 50)))
        middles = (_anchors() + moves[:, :2]) / scale
        sides = moves[:, 2:4].max(1) / scale
        corners = middles - sides[:, None] / 2
        rects = np.column_stack([corners, sides, sides])
        chosen = cv2.dnn.NMSBoxes(rects.tolist(), likely.tolist(), LEAST_SCORE, SAME_FACE)
        return [Square(*(round(float(v)) for v in rects[i, :3])) for i in np.ravel(chosen)]


def _canvas(image: U8) -> tuple[Floats, float]:
    """(S, S, 3) in [-1, 1] with the picture in its upper left, and its scale there."""
    height, width = image.shape[:2]
    scale = INPUT_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.full((INPUT_PX, INPUT_PX, 3), -1.0, np.float32)
    canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=way) / 127.5 - 1
    return canvas, scale


@cache
def _anchors() -> Floats:
    """(896, 2) px of the canvas, x and y, as the network counts them."""
    grids = []
    for count, several in GRIDS:
        at = (np.arange(count) + 0.5) * INPUT_PX / count
        y, x = np.meshgrid(at, at, indexing="ij")
        grids.append(np.stack([x, y], axis=-1).reshape(-1, 2).repeat(several, axis=0))
    return np.concatenate(grids)


@cache
def default_blazeface() -> BlazeFace:
    """The network in the package."""
    return BlazeFace()
