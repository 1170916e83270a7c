"""The reading network in another runtime: the same answers, and torch where it cannot be had."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from affect import runtime
from affect.batches import generate, identities, predict
from affect.model import AffectModel
from affect.runtime import (
    DECODER_FILE,
    READER_FILE,
    OpenVinoDecoder,
    OpenVinoReader,
    as_onnx,
    choose_local_decoder,
    choose_local_runtime,
    choose_runtime,
    decoder_as_onnx,
)
from tests.support.tiny import tiny_card, tiny_model

STRANGENESS = {"strangeness": [float(score) for score in range(0, 200, 10)]}


@pytest.fixture
def model() -> AffectModel:
    more = {"mirrored": True, "reference": STRANGENESS}
    return tiny_model(tiny_card(reader=True).model_copy(update=more))


@pytest.fixture
def folder(model: AffectModel, tmp_path: Path) -> Path:
    (tmp_path / READER_FILE).write_bytes(as_onnx(model))
    return tmp_path


@pytest.mark.parametrize("faces", [1, 3, 5])
def test_openvino_reads_what_torch_reads(model: AffectModel, folder: Path, faces: int) -> None:
    side = model.card.image_px
    crops = np.random.default_rng(0).integers(0, 256, (faces, side, side, 3), dtype=np.uint8)
    before = predict(model, crops, (1, 4))
    choose_runtime(model, folder, "openvino")
    assert isinstance(model.forward_reader, OpenVinoReader)
    after = predict(model, crops, (1, 4))
    for name in ("intensity", "probability", "va", "realism", "expression"):
        assert np.abs(getattr(after, name) - getattr(before, name)).max() < 1e-3, name


def _drawn(model: AffectModel) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    side, labels = model.card.image_px, len(model.card.labels_of.names)
    requested, no_references = (
        np.full((3, labels), 0.5, np.float32),
        np.zeros((0, side, side, 3), np.uint8),
    )
    return generate(model, requested, np.arange(3), no_references, np.full(3, -1, np.int32))[0]


def test_openvino_draws_what_torch_draws(model: AffectModel, folder: Path) -> None:
    before = _drawn(model)
    (folder / DECODER_FILE).write_bytes(decoder_as_onnx(model))
    choose_runtime(model, folder, "openvino")
    assert isinstance(model.forward_decoder, OpenVinoDecoder)
    after = _drawn(model)
    assert len(np.unique(after.reshape(3, -1), axis=0)) == 3
    assert np.abs(after.astype(int) - before.astype(int)).max() <= 1  # a last bit may round


def test_in_bfloat16_openvino_draws_nearly_the_same(model: AffectModel, folder: Path) -> None:
    (folder / DECODER_FILE).write_bytes(decoder_as_onnx(model))
    choose_runtime(model, folder, "openvino")
    before = _drawn(model)
    choose_runtime(model, folder, "openvino", drawing="bfloat16")
    difference = np.abs(_drawn(model).astype(int) - before.astype(int))
    assert difference.max() < 32 and difference.mean() < 2  # where the processor has none: 0


def test_a_process_without_an_archive_draws_the_same_bytes_as_a_worker(
    model: AffectModel, folder: Path
) -> None:
    local = tiny_model(model.card)
    local.load_state_dict(model.state_dict())
    (folder / DECODER_FILE).write_bytes(decoder_as_onnx(model))
    choose_runtime(model, folder, "openvino")
    choose_local_runtime(local)
    choose_local_decoder(local)
    assert np.array_equal(_drawn(local), _drawn(model))


def test_a_process_without_an_archive_reads_by_openvino_too(model: AffectModel) -> None:
    side = model.card.image_px
    crops = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    before, people = predict(model, crops, (1, 4)), identities(model, crops, (1, 4))
    choose_local_runtime(model)
    assert isinstance(model.forward_reader, OpenVinoReader)
    assert np.abs(predict(model, crops, (1, 4)).probability - before.probability).max() < 1e-3
    assert np.abs(identities(model, crops, (1, 4)) - people).max() < 1e-4


def test_threads_may_share_a_compiled_network(model: AffectModel) -> None:
    choose_local_runtime(model)
    side = model.card.image_px
    crops = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    alone = [predict(model, crop[None], (1,)).va for crop in crops]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda crop: predict(model, crop[None], (1,)).va, crops))
    assert np.array_equal(alone, together)


def test_without_the_package_torch_reads_and_a_warning_says_so(
    model: AffectModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "LOCAL_PACKAGES", ("openvino_of_elsewhere",))
    choose_local_runtime(model)
    assert model.forward_reader is None
    assert "openvino_of_elsewhere is not installed" in caplog.text


def test_gradients_go_through_torch(model: AffectModel, folder: Path) -> None:
    choose_runtime(model, folder, "openvino")
    side = model.card.image_px
    x = torch.zeros(1, 3, side, side, requires_grad=True)
    model.read_state(x).logits.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape


def test_a_model_without_a_reading_network_keeps_torch(tmp_path: Path) -> None:
    model = tiny_model()
    choose_runtime(model, tmp_path)
    assert model.forward_reader is None
    with pytest.raises(ValueError, match="no reading network"):
        choose_runtime(model, tmp_path, "openvino")


def test_an_archive_of_before_keeps_torch(model: AffectModel, tmp_path: Path) -> None:
    choose_runtime(model, tmp_path)
    assert model.forward_reader is None


def test_openvino_reports_nothing_to_its_makers() -> None:
    program = "import sys; from affect.runtime import _openvino; _openvino(); "
    loaded = "print([name for name in sys.modules if 'telemetry' in name and sys.modules[name]])"
    modules = subprocess.check_output([sys.executable, "-c", program + loaded], text=True)
    assert "openvino_telemetry" not in modules and "telemetry_stub" in modules
