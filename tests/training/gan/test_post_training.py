"""What the card of a finished run says of what it learnt from."""

from dataclasses import replace
from pathlib import Path

import torch

from affect.factory import initialise_model
from affect.model import AffectModel, smoke_card
from tests.support.made_database import card, make
from training.database.reader import Database
from training.gan.config import preset
from training.gan.post_training import fit_features, limits_of, post_train


def test_limits_follow_the_photographs_that_were_learnt_from() -> None:
    alone, together = limits_of(["rendered"]), limits_of(["rendered"], ["pictures"])
    assert any("rendered faces only" in one for one in alone)
    assert not any("rendered faces only" in one for one in together)
    assert any("pseudo-labels" in one for one in together)
    assert together == limits_of(["rendered", "pictures"])


def test_annotated_people_are_neither_renders_only_nor_pseudo_labelled() -> None:
    said = " ".join(limits_of(["rendered"], ["disfa"]))
    assert "rendered faces only" not in said and "pseudo-labels" not in said
    assert limits_of(["disfa"]) == limits_of(["disfa"], ["pictures"])


def test_the_card_names_photographs_beside_the_data(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    rows = [(number, f"p{number}", {"AU12": 1.0}) for number in range(12)]
    about = card("AU1", "AU12", source="pictures", licence="CC BY 4.0")
    people = Database.open(make(tmp_path / "people", about, rows))
    database = Database.open(faces_of_made_people)
    model = initialise_model(smoke_card(vocabulary=database.card.vocabulary), seed=0).eval()
    post_train(model, database, preset("smoke"), seen_images=0, photographs=people)
    data = model.card.data
    assert data.sources[-1] == "pictures" and data.licence.endswith("photographs: CC BY 4.0")
    assert model.card.limits == limits_of(database.card.sources, ["pictures"])


def _ended(database: Database, *, draws: bool) -> tuple[AffectModel, int]:
    """A model with a reading network after a run, and how many faces its trunk encoded then."""
    card = smoke_card(vocabulary=database.card.vocabulary, reader=True)
    model, encoded = initialise_model(card, seed=0).eval(), 0
    model.label_table.zero_()  # an earlier run that drew filled it

    def count(_: object, given: tuple[torch.Tensor]) -> None:
        nonlocal encoded
        encoded += len(given[0])

    model.trunk.register_forward_pre_hook(count)
    config = replace(preset("smoke"), draws=draws, network=card.network)
    post_train(model, database, config, seen_images=0)
    return model, encoded


def test_a_run_that_trains_no_generator_encodes_no_training_face(
    faces_of_made_people: Path,
) -> None:
    database = Database.open(faces_of_made_people)
    (drawing, all_faces), (reading, held) = (
        _ended(database, draws=draws) for draws in (True, False)
    )
    assert (all_faces - held, held) == (database.count("train"), database.count("validation"))
    assert torch.equal(reading.feature_whitener, drawing.feature_whitener)
    assert reading.card.reference == drawing.card.reference
    assert not reading.label_table.any() and drawing.label_table.any()


def test_realism_compares_the_directions_of_features_and_not_their_lengths() -> None:
    model = initialise_model(smoke_card(), seed=0)
    generator = torch.Generator().manual_seed(0)
    shape = (500, len(model.feature_mean))
    faces = torch.rand(shape, generator=generator)
    faces[:, 0] += 9
    noise = 0.01 * torch.rand(shape, generator=generator)  # faint, and nowhere like a face
    fit_features(model, faces)
    assert model.card.unit_features
    assert model.strangeness(noise).min() > 3 * model.strangeness(faces).max()
    assert torch.allclose(model.strangeness(7 * faces), model.strangeness(faces), rtol=1e-3)
