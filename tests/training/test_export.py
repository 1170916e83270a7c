"""The reader as ONNX: the same answers in another runtime, for any number of faces, and its card
beside it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from affect.batches import predict
from affect.card import ModelCard
from affect.model import AffectModel
from affect.model_folders import VARIABLE
from tests.support import trained
from tests.support.tiny import tiny_card, tiny_model
from training.export import CARD_KEY, export, names, write_reader

CLOSE = 1e-4
STRANGENESS = {"strangeness": [float(score) for score in range(0, 200, 10)]}
MODELS: dict[str, Callable[[], AffectModel]] = {
    "plain": lambda: tiny_model(),
    "mirrored": lambda: tiny_model(tiny_card().model_copy(update={"mirrored": True})),
    "reading network": lambda: tiny_model(
        tiny_card(reader=True).model_copy(update={"mirrored": True, "reference": STRANGENESS})
    ),
    "trained": trained.model,
}


def _crops(model: AffectModel, count: int) -> np.ndarray:
    side = model.card.image_px
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_those_of_torch(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    write_reader(model, tmp_path / "reader.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "reader.onnx")
    for count in (1, 3):
        crops = _crops(model, count)
        expected = predict(model, crops, (count,))
        answers = dict(zip(names(model.card), session.run(None, {"crops": crops}), strict=True))
        for name, answer in answers.items():
            assert np.abs(answer - getattr(expected, name)).max() <= CLOSE, name


def test_the_card_is_in_the_metadata(tmp_path: Path) -> None:
    model = tiny_model()
    write_reader(model, tmp_path / "reader.onnx")
    about = {p.key: p.value for p in onnx.load(tmp_path / "reader.onnx").metadata_props}
    assert ModelCard.parse(about[CARD_KEY].encode(), where="metadata") == model.card


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "model")
    out = tmp_path / "reader.onnx"
    command = [str(tmp_path), "--onnx", "--out", str(out)]
    assert CliRunner().invoke(export, command).exit_code == 0
    assert CliRunner().invoke(export, command).exit_code == 1
    assert CliRunner().invoke(export, [*command, "--overwrite"]).exit_code == 0


def test_the_shipped_model_needs_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "model")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "model"))
    done = CliRunner().invoke(export, ["--onnx", "--out", str(tmp_path / "reader.onnx")])
    assert done.exit_code == 0 and (tmp_path / "reader.onnx").exists()
