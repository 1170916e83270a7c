"""Strong augmentation: range, repeatability, and geometry that labels can follow."""

import torch

from training.gan.distributed import StepRandom
from training.gan.reading_augmentation import augment_strongly

SIDE = 32


def _faces(rows: int) -> torch.Tensor:
    return 2 * torch.rand(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) - 1


def test_pixels_keep_their_range_and_the_same_step_gives_the_same_pixels() -> None:
    x = _faces(16)
    once, again = (augment_strongly(x, StepRandom(5))[0] for _ in range(2))
    assert torch.equal(once, again) and once.abs().max() <= 1
    assert not torch.equal(once, augment_strongly(x, StepRandom(6))[0])


def test_without_strength_faces_are_mirrored_and_nothing_else() -> None:
    x = _faces(16)
    augmented, turned = augment_strongly(x, StepRandom(5), strength=0.0)
    expected = torch.where(turned.mirrored[:, None, None, None], x.flip(3), x)
    assert 0 < int(turned.mirrored.sum()) < 16
    assert torch.allclose(augmented, expected, atol=5e-3)  # dark pixels are lifted by a thousandth


def test_a_picture_turns_clockwise_by_the_degrees_given() -> None:
    """A bright spot right of the middle moves down when the picture turns clockwise."""
    x = torch.full((64, 3, SIDE, SIDE), -1.0)
    x[:, :, 15:17, 26:29] = 1.0
    from training.gan.reading_augmentation import _move

    moved, turned = _move(x, StepRandom(3), 1.0)
    rows = torch.linspace(-1, 1, SIDE)
    weight = (moved[:, 0] + 1).clamp(min=0)
    height = (weight.sum(2) * rows).sum(1) / weight.sum((1, 2)).clamp(min=1e-6)
    side = torch.where(turned.mirrored, -1.0, 1.0)  # a mirrored spot lies left and moves up
    slope = torch.corrcoef(torch.stack([side * turned.degrees, height]))[0, 1]
    assert slope > 0.5  # the crop shifts too
