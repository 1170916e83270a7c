"""The baselines of an explanation do what they are there for."""

import numpy as np
import torch

from tests.support.trained import FACES, face, model
from training.evaluation.explanation import baselines


def images() -> np.ndarray:
    return np.stack([face(name) for name in FACES])


def questions(label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn one AU on every face."""
    column = model().card.labels_of.index(label)
    present = model().predict(model().to_pixels(torch.from_numpy(images()))).present[:, column]
    return torch.full((len(FACES),), column), (~present).float()


def test_the_attack_turns_decisions_with_changes_that_nobody_sees() -> None:
    column, target = questions("AU4")
    attacked = baselines.pixel_attack(model(), images(), column, target)
    present = (
        model().predict(model().to_pixels(torch.from_numpy(attacked))).present[:, int(column[0])]
    )
    assert torch.equal(present.float(), target)
    assert np.abs(attacked.astype(int) - images()).max() <= round(255 * baselines.ATTACK_MOST)


def test_the_nearest_face_meets_the_target() -> None:
    column, target = questions("AU26")
    chosen = baselines.nearest_face(model(), images(), column, target, images())
    present = (
        model().predict(model().to_pixels(torch.from_numpy(chosen))).present[:, int(column[0])]
    )
    assert torch.equal(present.float(), target)


def test_of_two_faces_that_meet_the_target_the_nearer_one_is_taken() -> None:
    column = model().card.labels_of.index("AU12")
    smile = face("happiness").copy()
    darker = (smile * 0.97).astype(np.uint8)
    pool = np.stack([(smile * 0.5).astype(np.uint8), darker])
    read = model().predict(model().to_pixels(torch.from_numpy(pool))).present[:, column]
    chosen = baselines.nearest_face(
        model(), smile[None], torch.tensor([column]), torch.tensor([1.0]), pool
    )
    assert read.tolist() == [True, True]
    assert np.array_equal(chosen[0], darker)


def test_without_a_face_that_is_read_so_the_one_that_comes_nearest_to_it_is_taken() -> None:
    column = model().card.labels_of.index("valence")
    valence = model().predict(model().to_pixels(torch.from_numpy(images()))).va[:, 0]
    chosen = baselines.nearest_face(
        model(), images()[:1], torch.tensor([column]), torch.tensor([-1.0]), images()
    )
    assert np.array_equal(chosen[0], images()[int(valence.argmin())])
