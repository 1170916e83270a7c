"""A given face is moved to what is asked for, and again by what is missing."""

import pytest
import torch
from torch import Tensor

from affect import editing
from affect.editing import OVERDRIVE, moved
from affect.model import AffectModel
from tests.support.trained import FACES, face, model

AU, REQUESTED = "AU15", 0.9


def in_state(name: str, **requested: float) -> tuple[Tensor, Tensor]:
    """A face of another state, moved, and the state that was asked of the generator."""
    columns = [*model().card.vocabulary, "valence", "arousal"]
    labels = torch.tensor([[requested.get(column, torch.nan) for column in columns]])
    crop = torch.from_numpy(face(name)[None].copy())
    with torch.inference_mode():
        return moved(model(), labels, torch.Generator().manual_seed(0), crop)


def read(image: Tensor) -> float:
    with torch.inference_mode():
        return model().labels(image)[0, list(model().card.vocabulary).index(AU)].item()


def test_what_one_edit_leaves_missing_the_next_ones_add(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = []
    for edits in (1, editing.EDITS):
        monkeypatch.setattr(editing, "EDITS", edits)
        images = [in_state(name, **{AU: REQUESTED})[0] for name in FACES]
        missing.append(sum(abs(REQUESTED - read(image)) for image in images) / len(images))
    assert missing[1] < missing[0] - 0.01


def test_nobody_is_moved_further_than_overdrive_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    moves, edit, column = [], AffectModel.edit, list(model().card.vocabulary).index(AU)

    def recorded(self: AffectModel, x: Tensor, to: Tensor, start: Tensor, *rest: object) -> Tensor:
        moves.append(abs((to - start)[0, column].item()))
        return edit(self, x, to, start, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(AffectModel, "edit", recorded)
    monkeypatch.setattr(editing, "NEAR", 0.0)
    in_state("happiness", **{AU: REQUESTED})
    assert len(moves) == editing.EDITS and max(moves) <= OVERDRIVE * moves[0] + 1e-6


def test_a_face_of_which_nothing_is_asked_stays_as_it_is() -> None:
    crop = torch.from_numpy(face("sadness")[None].copy())
    image, state = in_state("sadness")
    with torch.inference_mode():
        assert (image - model().to_pixels(crop)).abs().mean() < 0.03
        assert torch.allclose(state, model().labels(model().to_pixels(crop)), equal_nan=True)
