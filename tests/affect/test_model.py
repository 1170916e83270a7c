"""One object reads, draws, edits, saves and loads."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from affect.card import CARD_FILE, WEIGHTS_FILE, CardError, ModelCard
from affect.factory import initialise_model, load_model
from affect.labels import LabelError, Vocabulary, mask_labels
from affect.model import AffectModel, smoke_card
from affect.precision import SHORT, round_to_bfloat16


@pytest.fixture
def model() -> AffectModel:
    built = initialise_model(smoke_card(), seed=3).eval()
    built.label_table[:] = torch.rand(
        built.label_table.shape, generator=torch.Generator().manual_seed(0)
    )
    return built


@pytest.fixture
def faces() -> Tensor:
    return torch.randint(
        0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_pixels_survive_the_way_into_the_network_and_back(faces: Tensor) -> None:
    assert torch.equal(AffectModel.to_images(AffectModel.to_pixels(faces)), faces)


def test_a_saved_model_reads_the_same(model: AffectModel, faces: Tensor, tmp_path: Path) -> None:
    model.save(tmp_path)
    x = AffectModel.to_pixels(faces)
    assert torch.equal(load_model(tmp_path).predict(x).probability, model.predict(x).probability)


@pytest.mark.parametrize("dtype", SHORT)
def test_rounded_weights_are_stored_in_half_the_bytes_and_load_to_the_same_bits(
    model: AffectModel, dtype: torch.dtype, tmp_path: Path
) -> None:
    model.save(tmp_path / "whole")
    if dtype == torch.bfloat16:
        round_to_bfloat16(model)
    else:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())
    model.save(tmp_path / "half")
    loaded = load_model(tmp_path / "half").state_dict()
    assert all(
        torch.equal(loaded[name].nan_to_num(9), tensor.nan_to_num(9))
        for name, tensor in model.state_dict().items()
    )
    assert all(tensor.dtype == model.state_dict()[name].dtype for name, tensor in loaded.items())
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    saved = (tmp_path / "whole" / WEIGHTS_FILE).stat().st_size - (
        tmp_path / "half" / WEIGHTS_FILE
    ).stat().st_size
    assert saved > 0.4 * parameters  # zeros were stored in half before


def test_a_mirrored_reading_is_the_mean_of_the_face_and_its_mirror_image(
    model: AffectModel, faces: Tensor
) -> None:
    x = AffectModel.to_pixels(faces)
    plain, turned = model.read(x), model.read(x.flip(3))
    model.replace_card(model.card.model_copy(update={"mirrored": True}))
    read = model.read(x)
    torch.testing.assert_close(read.logits, (plain.logits + turned.logits) / 2)
    torch.testing.assert_close(read.va, (plain.va + turned.va) / 2)
    torch.testing.assert_close(model.read(x.flip(3)).labels, read.labels)
    for name in ("latent", "identity", "features"):
        torch.testing.assert_close(getattr(read, name), getattr(plain, name))
    for own, of_face in zip(read.maps, plain.maps, strict=True):
        torch.testing.assert_close(own, of_face)


def test_weights_of_another_run_are_refused(model: AffectModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    initialise_model(smoke_card(), seed=4).save(tmp_path / "b")
    (tmp_path / "a" / WEIGHTS_FILE).write_bytes((tmp_path / "b" / WEIGHTS_FILE).read_bytes())
    with pytest.raises(CardError, match="digest"):
        load_model(tmp_path / "a")


def test_weights_of_another_shape_are_refused(model: AffectModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    card = ModelCard.load(tmp_path)
    wider = card.model_copy(
        update={"network": card.network.model_copy(update={"latent": 24}), "digest": ""}
    )
    wider.save(tmp_path)
    with pytest.raises(CardError, match="does not fit"):
        load_model(tmp_path)


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=CARD_FILE):
        load_model(tmp_path)


def test_the_same_seed_initialises_the_same_weights() -> None:
    first, second = (
        dict(initialise_model(smoke_card(), seed=5).named_parameters()) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_untrained_editor_leaves_the_face_alone(model: AffectModel, faces: Tensor) -> None:
    x = AffectModel.to_pixels(faces)
    assert torch.equal(model.edit(x, torch.zeros(3, 10)), x)


def test_requested_labels_are_kept_and_the_others_come_from_real_rows(model: AffectModel) -> None:
    requested = torch.full((3, 10), float("nan"))
    requested[:, 4] = 0.5
    full = model.sample_labels(requested, torch.Generator().manual_seed(2))
    assert torch.all(full[:, 4] == 0.5)
    rest = torch.cat([full[:, :4], full[:, 5:]], dim=1)
    table = torch.cat([model.label_table[:, :4], model.label_table[:, 5:]], dim=1)
    assert all((table == row).all(1).any() for row in rest)


def test_asking_nothing_of_a_face_keeps_its_state(model: AffectModel) -> None:
    read = torch.rand(3, 10)
    edited = model.target_labels(
        read, torch.full((3, 10), float("nan")), torch.Generator().manual_seed(2)
    )
    assert torch.equal(edited, read)


def test_asking_one_action_unit_keeps_the_others(model: AffectModel) -> None:
    read, requested = torch.rand(3, 10), torch.full((3, 10), float("nan"))
    requested[:, 0] = 1.0
    target = model.target_labels(read, requested, torch.Generator().manual_seed(2))
    assert torch.equal(target[:, 1:8], read[:, 1:8]) and torch.all(target[:, 0] == 1.0)


def test_realism_is_the_share_of_real_faces_that_score_no_higher(
    model: AffectModel, faces: Tensor
) -> None:
    x = AffectModel.to_pixels(faces)
    scores = model.read(x).critic.detach()
    model.replace_card(
        model.card.model_copy(update={"reference": {"critic": sorted(scores.tolist())}})
    )
    assert torch.equal(model.predict(x).realism.sort().values, torch.tensor([1 / 3, 2 / 3, 1.0]))


def test_realism_is_the_share_of_real_faces_that_are_at_least_as_strange(
    model: AffectModel, faces: Tensor
) -> None:
    x = AffectModel.to_pixels(faces)
    far = sorted(model.strangeness(model.read(x).features).tolist())
    model.replace_card(
        model.card.model_copy(update={"reference": {"critic": [0.0, 1.0], "strangeness": far}})
    )
    assert torch.equal(model.predict(x).realism.sort().values, torch.tensor([1 / 3, 2 / 3, 1.0]))
    model.feature_mean += 100.0
    assert torch.all(model.predict(x).realism == 0)


def test_weights_from_before_strangeness_load(model: AffectModel) -> None:
    older = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("feature_")
    }
    model.load_state_dict(older)
    assert torch.equal(model.feature_whitener, torch.eye(len(model.feature_mean)))


def test_a_run_on_action_units_alone_ignores_requested_valence(faces: Tensor) -> None:
    model = initialise_model(smoke_card(labels="au"), seed=3).eval()
    z, y = torch.randn(2, 16), torch.rand(2, 10)
    moved = y.clone()
    moved[:, -2:] = -0.9
    assert torch.equal(model.generate(z, y), model.generate(z, moved))


def test_an_unknown_action_unit_is_refused_by_name() -> None:
    with pytest.raises(LabelError, match="AU99"):
        Vocabulary(("AU12", "AU99"))


@pytest.mark.parametrize("value", [1.5, -1.01, float("nan")])
def test_valence_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(LabelError, match="from -1 to 1"):
        Vocabulary(("AU12",)).row({"valence": value})


def test_a_run_on_one_kind_of_label_sees_only_that_kind() -> None:
    row = Vocabulary(("AU12",)).row({"AU12": 0.5, "valence": 0.1, "arousal": 0.2})[None]
    assert list(~(mask_labels(row, "au") != mask_labels(row, "au"))[0]) == [True, False, False]
    assert list(~(mask_labels(row, "va") != mask_labels(row, "va"))[0]) == [False, True, True]
