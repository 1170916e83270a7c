"""Any number of rows runs in passes of a few fixed sizes, and comes out as if it had run alone."""

import numpy as np
import pytest
import torch

from affect.batches import PADDING, identities, pad, passes, predict
from tests.support.tiny import tiny_card, tiny_model

SIZES = (1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize("rows", [1, 3, 5, 33, 63, 64, 65, 200])
def test_passes_cover_every_row_once_and_compute_little_for_nothing(rows: int) -> None:
    cut = list(passes(rows, SIZES))
    assert [start for start, _, _ in cut] == [0, *(stop for _, stop, _ in cut[:-1])]
    assert cut[-1][1] == rows
    assert all(
        size in SIZES and size - (stop - start) <= PADDING * size for start, stop, size in cut
    )


def test_a_single_size_is_padded_to() -> None:
    assert list(passes(5, (4,))) == [(0, 4, 4), (4, 5, 4)]


def test_padding_repeats_the_last_row() -> None:
    assert pad(torch.tensor([[1], [2]]), 4).tolist() == [[1], [2], [2], [2]]


def test_rows_read_together_are_as_read_alone() -> None:
    model = tiny_model()
    crops = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    together = predict(model, crops, SIZES)
    alone = [predict(model, crops[row : row + 1], (1,)) for row in range(7)]
    assert np.allclose(
        together.probability, np.concatenate([one.probability for one in alone]), atol=1e-5
    )
    assert np.allclose(together.va, np.concatenate([one.va for one in alone]), atol=1e-5)


def test_people_are_known_without_reading_their_state() -> None:
    model = tiny_model(tiny_card(reader=True))
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        read = model.read(model.to_pixels(torch.from_numpy(crops)))
    assert np.allclose(identities(model, crops, SIZES), read.identity.numpy(), atol=1e-5)
