"""The reading network: shapes, mirrored reading, and what the game may not change."""

from pathlib import Path

import torch

from affect.factory import initialise_model, load_model
from affect.model import AffectModel, smoke_card
from affect.reading_network import ReadingOutput, with_mirrored


def _model() -> AffectModel:
    return initialise_model(smoke_card(reader=True), seed=0).eval()


def _faces(rows: int) -> torch.Tensor:
    return 2 * torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(1)) - 1


def test_a_reading_has_a_row_for_each_face_and_every_part_of_the_card() -> None:
    model = _model()
    state = model.read_state(_faces(3))
    aus, sides = len(model.card.vocabulary), len(model.card.one_sided)
    assert state.logits.shape == (3, aus) and state.va.abs().max() <= 1
    assert state.expression.shape == (3, 8) and state.pose.shape == (3, 3)
    assert state.sides.shape == (3, 2, sides)


def test_prediction_and_full_reading_say_the_same() -> None:
    model, x = _model(), _faces(2)
    assert torch.equal(model.predict(x).probability, model.calibrate(model.read(x)).probability)
    assert torch.allclose(model.predict(x).expression.sum(1), torch.ones(2))


def test_read_with_its_mirror_image_a_face_and_that_image_agree() -> None:
    model, x = _model(), _faces(2)
    model.replace_card(model.card.model_copy(update={"mirrored": True}))
    face, mirror = model.read_state(x), model.read_state(x.flip(3))
    assert torch.allclose(face.logits, mirror.logits, atol=1e-6)
    assert torch.allclose(face.pose, mirror.pose * torch.tensor([-1.0, 1.0, -1.0]), atol=1e-5)
    assert torch.allclose(face.sides, mirror.sides.flip(1), atol=1e-6)


def test_left_and_right_change_places_in_a_mirror() -> None:
    sides = torch.tensor([[[1.0], [3.0]], [[5.0], [7.0]]])
    none = torch.zeros(2, 0)
    both = ReadingOutput(none, torch.zeros(2, 2), none, none, sides, none)
    assert with_mirrored(both, 1).sides.tolist() == [[[4.0], [4.0]]]


def test_the_game_reaches_no_weight_of_the_reading_network() -> None:
    model, x = _model(), _faces(2)
    output = model.encode(x, None, None)
    (output.critic.sum() + output.logits.sum() + output.latent.sum()).backward()
    assert model.reader is not None
    assert all(parameter.grad is None for parameter in model.reader.parameters())


def test_a_saved_reading_network_reads_the_same(tmp_path: Path) -> None:
    model, x = _model(), _faces(2)
    model.save(tmp_path)
    assert torch.equal(load_model(tmp_path).read_state(x).logits, model.read_state(x).logits)
