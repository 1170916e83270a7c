"""A run begins from another's weights: same network, larger pictures, or another vocabulary."""

from pathlib import Path

import pytest
import torch

from affect.card import Calibration, ModelCard
from affect.factory import initialise_model, load_model
from affect.model import AffectModel, smoke_card
from tests.support.tiny import tiny_card, tiny_model
from training.database.card import DataCard
from training.gan import loop
from training.gan.config import TrainConfig, preset
from training.gan.post_training import new_card
from training.gan.weight_transfer import network_begun, transfer_weights


def _fresh(card: ModelCard) -> AffectModel:
    return initialise_model(card, seed=9).eval()


def test_the_same_network_reads_as_its_beginning_did(tmp_path: Path) -> None:
    old = tiny_model()
    old.save(tmp_path)
    new = _fresh(tiny_card())
    transfer_weights(new, tmp_path)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(new.read(x).labels, old.read(x).labels)


def test_twice_the_side_takes_over_all_but_the_top_level(tmp_path: Path) -> None:
    small = smoke_card(image_px=32)
    tiny_model(small).save(tmp_path)
    width = small.network
    size = width.model_copy(update={"trunk": (8, *width.trunk), "decoder": (*width.decoder, 8)})
    large = _fresh(smoke_card(image_px=64).model_copy(update={"network": size}))
    transfer_weights(large, tmp_path)
    old = load_model(tmp_path)
    new_weights, old_weights = large.state_dict(), old.state_dict()
    for new, same in (
        ("trunk.down.1.weight", "trunk.down.0.weight"),
        ("decoder.blocks.0.first.weight", "decoder.blocks.0.first.weight"),
    ):
        assert torch.equal(new_weights[new], old_weights[same])
    assert large.read(torch.zeros(1, 3, 64, 64)).labels.isfinite().all()


def test_a_wider_network_computes_at_first_what_the_narrow_one_did(tmp_path: Path) -> None:
    old = tiny_model()
    # a fresh model's branches and modulations are zero and would hide where they went
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.add_(
                0.05
                * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
                )
            )
    old.save(tmp_path)
    size = old.card.network
    wider = {
        "trunk": tuple(c + 8 for c in size.trunk),
        "decoder": tuple(c + 24 for c in size.decoder),
    }
    new = _fresh(old.card.model_copy(update={"network": size.model_copy(update=wider)}))
    taken, _ = transfer_weights(new, tmp_path)
    assert taken >= len(dict(new.named_parameters()))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    ours, theirs = new.read(x), old.read(x)
    torch.testing.assert_close(ours.labels, theirs.labels)
    torch.testing.assert_close(ours.latent, theirs.latent)
    wish = theirs.labels.flip(0)
    torch.testing.assert_close(new.edit(x, wish), old.edit(x, wish))
    torch.testing.assert_close(new.generate(ours.latent, wish), old.generate(theirs.latent, wish))
    new.read(x).logits.sum().backward()
    deaf = new.get_parameter("trunk.down.1.weight")
    # but they learn to listen
    assert deaf.grad is not None and deaf.grad[: size.trunk[2], size.trunk[1] :].abs().max() > 0


def test_an_action_unit_keeps_what_was_known_of_it_at_another_place(tmp_path: Path) -> None:
    old = tiny_model()
    old.save(tmp_path)
    vocabulary = ("AU12", "AU43", "AU1")
    card = tiny_card().model_copy(
        update={
            "vocabulary": vocabulary,
            "calibration": {code: Calibration() for code in vocabulary},
        }
    )
    new = _fresh(card)
    transfer_weights(new, tmp_path)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    ours, theirs = new.read(x), old.read(x)
    torch.testing.assert_close(
        ours.logits[:, 0], theirs.logits[:, old.card.vocabulary.index("AU12")]
    )
    torch.testing.assert_close(
        ours.logits[:, 2], theirs.logits[:, old.card.vocabulary.index("AU1")]
    )
    torch.testing.assert_close(ours.va, theirs.va)


def test_weights_whose_trunk_fits_nowhere_are_refused(tmp_path: Path) -> None:
    tiny_model().save(tmp_path)
    odd = tiny_card().network.model_copy(
        update={"trunk": (6, 10, 10, 10), "decoder": (10, 10, 10, 6), "latent": 10, "condition": 10}
    )
    card = tiny_card().model_copy(
        update={"network": odd, "vocabulary": ("AU43",), "calibration": {"AU43": Calibration()}}
    )
    with pytest.raises(ValueError, match="trunk in"):
        transfer_weights(_fresh(card), tmp_path)


def _paper_model(folder: Path) -> None:
    data = DataCard(
        name="test", vocabulary=("AU1", "AU12"), image_px=32, sources=("made",), licence="CC0-1.0"
    )
    _fresh(new_card(preset("ssgan2019"), data)).save(folder)


@pytest.mark.parametrize(
    ("config", "kinds"),
    [(preset("smoke"), "kind ssgan2019 and"), (preset("ssgan2019"), "preset's is ssgan2019")],
)
def test_the_seed_papers_networks_neither_begin_ours_nor_begin_with_them(
    config: TrainConfig, kinds: str, faces_of_made_people: Path, tmp_path: Path
) -> None:
    if config.preset == "ssgan2019":
        tiny_model().save(tmp_path / "model")
    else:
        _paper_model(tmp_path / "model")
    with pytest.raises(ValueError, match=kinds):
        loop.start(config, faces_of_made_people, tmp_path / "run", init=tmp_path / "model")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_in_place_of_its_model_is_reported(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="such as RUN/model"):
        loop.start(preset("smoke"), faces_of_made_people, tmp_path / "run", init=tmp_path)


def test_a_run_that_only_reads_goes_on_with_the_reading_network_it_begins_from(
    tmp_path: Path,
) -> None:
    card = tiny_card(reader=True)
    tiny_model(card).save(tmp_path)
    requested = preset("reader128").network
    assert network_begun(requested, card.image_px, tmp_path) == card.network
    assert network_begun(requested, 2 * card.image_px, tmp_path) == requested


def test_a_model_whose_trunk_reads_gets_the_presets_reading_network(tmp_path: Path) -> None:
    card = tiny_card()
    tiny_model(card).save(tmp_path)
    requested = preset("reader128").network
    begun = network_begun(requested, card.image_px, tmp_path)
    assert (begun.reader, begun.trunk) == (requested.reader, card.network.trunk)
