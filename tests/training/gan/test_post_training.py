"""What the card of a finished run says of what it learnt from."""

from pathlib import Path

from affect.factory import initialise_model
from affect.model import smoke_card
from tests.support.made_database import card, make
from training.database.reader import Database
from training.gan.config import preset
from training.gan.post_training import limits_of, post_train


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
