"""What computes the reading network on a processor: torch, or OpenVINO where it is installed.

OpenVINO (Apache-2.0) takes the network as ONNX, in this process and memory, and answers the same to
1e-5 in less than half of torch's time (docs/speed.md). An archive holds the ONNX file, so that a
worker neither traces nor converts. A GPU, gradients, drawing and explaining keep torch.
"""

import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from affect.model import AffectModel
from affect.reading_network import ReadingNetwork, ReadingOutput

Runtime = Literal["auto", "torch", "openvino"]
READER_FILE = "reader.onnx"  # in a model's archive
OPSET = 17


def choose_runtime(
    model: AffectModel, folder: Path, runtime: Runtime = "auto", *, threads: int = 1
) -> None:
    """Let the model compute its reading network, where no gradients are wanted, with that runtime.

    "auto" is OpenVINO where the package is installed, the model is on a processor, and `folder`
    holds READER_FILE; else torch. Raises ValueError for a runtime that cannot be had.
    """
    why_not = _why_not_openvino(model, folder)
    if runtime == "openvino" and why_not:
        raise ValueError(f"runtime is 'openvino': {why_not}; give auto or torch")
    model.forward_reader = None
    if runtime != "torch" and not why_not:
        assert model.reader is not None
        model.forward_reader = OpenVinoReader(model.reader, folder / READER_FILE, threads=threads)


def _why_not_openvino(model: AffectModel, folder: Path) -> str | None:
    if model.reader is None:
        return "this model has no reading network"
    if model.platt.device.type != "cpu":
        return f"the model is on {model.platt.device}"
    if not (folder / READER_FILE).is_file():
        return f"{folder / READER_FILE} is missing, archive the run again"
    if importlib.util.find_spec("openvino") is None:
        return "the package openvino is not installed"
    return None


class OpenVinoReader:
    """A reading network compiled by OpenVINO for any number of faces. For one thread at a time."""

    def __init__(self, reader: ReadingNetwork, graph: Path, *, threads: int) -> None:
        options = {
            # bfloat16, its own choice where the processor has it, moves answers by up to 0.004.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several workers share the cores
        }
        self._reader = reader
        self._request = (
            _openvino().Core().compile_model(graph, "CPU", options).create_infer_request()
        )

    def __call__(self, x: Tensor) -> ReadingOutput:
        """Faces (B, 3, S, S) in [-1, 1]."""
        results = self._request.infer({0: np.ascontiguousarray(x.numpy())})
        answers, features = (torch.from_numpy(results[place].copy()) for place in (0, 1))
        return self._reader.output(answers, features)


def _openvino() -> Any:
    """The package, without the report to its makers that importing it would send."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # an extra

    return openvino


class _Compute(nn.Module):
    """What has weights, as a module."""

    def __init__(self, reader: ReadingNetwork) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Answers and features of faces (B, 3, S, S)."""
        return self.reader.compute(x)


def as_onnx(model: AffectModel) -> bytes:
    """`ReadingNetwork.compute` of a model that has one as an ONNX file, for any number of faces.
    Needs the package onnx.
    """
    assert model.reader is not None
    side = model.card.image_px
    folder = tempfile.TemporaryDirectory()
    with folder, warnings.catch_warnings(), torch.no_grad():
        path = Path(folder.name, READER_FILE)
        warnings.simplefilter("ignore")  # what the tracer takes for constants is constant
        torch.onnx.export(
            _Compute(model.reader).eval(),
            (torch.zeros(2, 3, side, side),),
            path,
            input_names=["faces"],
            output_names=["answers", "features"],
            dynamic_axes={name: {0: "rows"} for name in ("faces", "answers", "features")},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()
