"""A checkpoint gives back the bits it was given, or says that it cannot."""

import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Adam

from training.gan.checkpoint import (
    CHECKPOINT_FILE,
    Position,
    RunError,
    load_checkpoint,
    position_of,
    save_checkpoint,
)

AT = Position(step=7, seen_images=56, seconds=1.5)


class _State:
    """A tiny network, its average and its optimiser."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model, self.average = nn.Linear(3, 2), nn.Linear(3, 2)
        self.optimisers = {"d": Adam(self.model.parameters())}
        self.model(torch.ones(1, 3)).sum().backward()
        self.optimisers["d"].step()

    def save(self, folder: Path) -> Path:
        save_checkpoint(folder, AT, **self.__dict__)
        return folder / CHECKPOINT_FILE

    def load(self, folder: Path) -> Position:
        return load_checkpoint(folder, **self.__dict__)

    def bits(self) -> list[bytes]:
        states = self.optimisers["d"].state.values()
        tensors = [*self.model.parameters(), *self.average.parameters()]
        tensors += [tensor for state in states for _, tensor in sorted(state.items())]
        return [tensor.detach().numpy().tobytes() for tensor in tensors]


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved, other = _State(0), _State(1)
    saved.save(tmp_path)
    assert other.load(tmp_path) == AT == position_of(tmp_path)
    assert other.bits() == saved.bits()


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    saved, rng = _State(0), np.random.default_rng(0)
    path = saved.save(tmp_path)
    content = path.read_bytes()
    noticed = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        other = _State(1)
        try:
            position = other.load(tmp_path)
        except RunError:
            noticed += 1
        else:
            assert (position, other.bits()) == (AT, saved.bits())
    assert noticed > 300


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    saved, other = _State(0), _State(1)
    path = saved.save(tmp_path)
    save_file(load_file(path), path, metadata={"position": json.dumps(AT.__dict__)})
    assert other.load(tmp_path) == AT and other.bits() == saved.bits()


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(tmp_path: Path) -> None:
    state = _State(0)
    before = state.save(tmp_path).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(RunError, match=r"step 7 .*free some space.*--resume"):
            state.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [CHECKPOINT_FILE]
