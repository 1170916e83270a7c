"""What computes the reading network and the decoder on a processor: torch, or OpenVINO where it is
installed.

OpenVINO (Apache-2.0) takes a network as ONNX, in this process and memory, and answers the same to
1e-5 in less time than torch (docs/speed.md). An archive holds the ONNX file, so that a worker
neither traces nor converts; a process without an archive traces the network when it starts, which
takes a third of a second of a core. A GPU, gradients and the editing of a given face keep torch.
"""

import importlib.util
import logging
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from affect.archive import Precision
from affect.model import AffectModel
from affect.networks import Decoder
from affect.reading_network import ReadingNetwork, ReadingOutput

Runtime = Literal["auto", "torch", "openvino"]
READER_FILE, DECODER_FILE = "reader.onnx", "decoder.onnx"  # in a model's archive
OPSET = 17
PRECISION_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
LOCAL_PACKAGES = ("openvino", "onnx")  # that a process without an archive needs
log = logging.getLogger(__name__)


def choose_runtime(
    model: AffectModel,
    folder: Path,
    runtime: Runtime = "auto",
    *,
    threads: int = 1,
    drawing: Precision = "float32",
) -> None:
    """Let the model compute its reading network, and its decoder where `folder` holds DECODER_FILE,
    with that runtime, where no gradients are wanted. OpenVINO draws in the precision `drawing`.

    "auto" is OpenVINO where the package is installed, the model is on a processor, and `folder`
    holds READER_FILE; else torch. Raises ValueError for a runtime that is not available.
    """
    why_not = _why_not_openvino(model, folder)
    if runtime == "openvino" and why_not:
        raise ValueError(f"runtime is 'openvino': {why_not}; give auto or torch")
    model.forward_reader = model.forward_decoder = None
    if runtime != "torch" and not why_not:
        assert model.reader is not None
        model.forward_reader = OpenVinoReader(model.reader, folder / READER_FILE, threads=threads)
        if (folder / DECODER_FILE).is_file():
            model.forward_decoder = OpenVinoDecoder(
                folder / DECODER_FILE, threads=threads, precision=drawing
            )


def choose_local_runtime(model: AffectModel, *, streams: int = 1) -> None:
    """The same for a process without an archive: on a processor the reading network, and the trunk
    where it computes identity embeddings, are traced here and computed by OpenVINO, for so many
    concurrent threads. Where a package is missing torch reads, and a warning says so.
    """
    model.forward_reader = model.forward_identity = None
    if model.platt.device.type != "cpu":
        return
    missing = [name for name in LOCAL_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        log.warning(
            "torch reads, which takes longer, as %s is not installed: "
            "pip install 'affectgan[local]'",
            " and ".join(missing),
        )
        return
    if model.reader is not None:
        model.forward_reader = OpenVinoReader(model.reader, as_onnx(model), streams=streams)
    model.forward_identity = OpenVinoIdentity(_identity_as_onnx(model), streams=streams)


def choose_local_decoder(model: AffectModel) -> None:
    """Let a process without an archive draw as a worker does, where `choose_local_runtime` chose
    OpenVINO to read.
    """
    if model.forward_reader is not None:
        model.forward_decoder = OpenVinoDecoder(decoder_as_onnx(model))


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


class _Compiled:
    """A network that OpenVINO computes for any number of faces: in each of `streams` threads that
    call at the same time, by `threads` of its own.
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        threads: int = 1,
        streams: int = 1,
        precision: Precision = "float32",
    ) -> None:
        options = {
            # bfloat16, its own choice where the processor has it, moves answers by up to 0.004.
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # several workers share the cores
        }
        core = _openvino().Core()
        network = core.read_model(graph) if isinstance(graph, bytes) else graph
        self._network = core.compile_model(network, "CPU", options)
        self._of_thread = threading.local()

    def compute(self, *inputs: Tensor) -> list[Tensor]:
        """Every output, of B rows of every input."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._network.create_infer_request()
        arrays = {index: np.ascontiguousarray(x.numpy()) for index, x in enumerate(inputs)}
        results = self._of_thread.request.infer(arrays)
        return [torch.from_numpy(result.copy()) for result in results.values()]


class OpenVinoReader(_Compiled):
    """A reading network."""

    def __init__(
        self, reader: ReadingNetwork, graph: Path | bytes, *, threads: int = 1, streams: int = 1
    ) -> None:
        super().__init__(graph, threads=threads, streams=streams)
        self._reader = reader

    def __call__(self, x: Tensor) -> ReadingOutput:
        """Faces (B, 3, S, S) in [-1, 1]."""
        return self._reader.output(*self.compute(x))


class OpenVinoDecoder(_Compiled):
    """The decoder, as it draws from a latent code alone."""

    def __call__(self, z: Tensor, condition: Tensor) -> Tensor:
        """Faces (B, 3, S, S) of persons z (B, Z) and embedded states (B, condition)."""
        return self.compute(z, condition)[0]


class OpenVinoIdentity(_Compiled):
    """The trunk and the identity head."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, E) of length 1, of faces (B, 3, S, S) in [-1, 1]."""
        return self.compute(x)[0]


def _openvino() -> Any:
    """The package, with the telemetry that its import would send turned off."""
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


class _Draw(nn.Module):
    """The decoder without feature maps of a given face, as a module."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Faces (B, 3, S, S) of z (B, Z) and condition (B, condition)."""
        images: Tensor = self.decoder(z, condition)[0]
        return images


class _Identify(nn.Module):
    """From a face to its identity embedding, as a module."""

    def __init__(self, model: AffectModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, E) of faces (B, 3, S, S)."""
        return self.model.identify(x)


def as_onnx(model: AffectModel) -> bytes:
    """`ReadingNetwork.compute` of a model that has one as an ONNX file, for any number of faces.
    Needs the package onnx.
    """
    assert model.reader is not None
    return _onnx(_Compute(model.reader), _faces(model), ["answers", "features"])


def decoder_as_onnx(model: AffectModel) -> bytes:
    """The decoder as it draws from a latent code, as an ONNX file for any number of faces. Needs
    the package onnx.
    """
    size = model.card.network
    inputs = {"latents": torch.zeros(2, size.latent), "states": torch.zeros(2, size.condition)}
    return _onnx(_Draw(model.decoder), inputs, ["faces"])


def _identity_as_onnx(model: AffectModel) -> bytes:
    return _onnx(_Identify(model), _faces(model), ["identity"])


def _faces(model: AffectModel) -> dict[str, Tensor]:
    side = model.card.image_px
    return {"faces": torch.zeros(2, 3, side, side)}


def _onnx(network: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """A network of so many inputs, for any number of rows."""
    folder = tempfile.TemporaryDirectory()
    with folder, warnings.catch_warnings(), torch.no_grad():
        path = Path(folder.name, READER_FILE)
        warnings.simplefilter("ignore")  # what the tracer takes for constants is constant
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: {0: "rows"} for name in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()
