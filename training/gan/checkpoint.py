"""A run's state on disk: one safetensors file whose header carries the position and a checksum of
everything, replaced in one rename.

Randomness is not stored: every step draws from a generator seeded by (run seed, step), and batch n
of the data is a pure function of (data, seed, n). So weights, moments and the step number are
enough to resume to the same bits.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Adam

CHECKPOINT_FILE = "checkpoint.safetensors"
SUM = "sha256"
# What reading a damaged file raises: its header is JSON in JSON.
UNREADABLE = (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError)


class RunError(ValueError):
    """A run folder that cannot be used as asked: says which file and what to do."""


@dataclass(frozen=True)
class Position:
    """The position of a run."""

    step: int
    seen_images: int
    seconds: float  # spent training, over all its sittings


def save_checkpoint(
    folder: Path,
    position: Position,
    *,
    model: nn.Module,
    average: nn.Module,
    optimisers: dict[str, Adam],
) -> None:
    """Write everything that resuming needs.

    A kill at any moment leaves the old file or the new one, never half of one.
    """
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()} | {
        f"average.{k}": v for k, v in average.state_dict().items()
    }
    for title, optimiser in optimisers.items():
        states = optimiser.state_dict()["state"].items()
        tensors |= {
            f"{title}.{index}.{name}": value
            for index, state in states
            for name, value in state.items()
        }
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    header = {"position": json.dumps({**position.__dict__, SUM: _sum(position, tensors)})}
    fresh = folder / f"{CHECKPOINT_FILE}.new"
    try:
        save_file(tensors, fresh, metadata=header)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(folder / CHECKPOINT_FILE)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise RunError(
            f"cannot write the checkpoint of step {position.step} to {folder} ({_reason(error)}): "
            f"free some space, then go on from the last one with --resume {folder}"
        ) from error


def load_checkpoint(
    folder: Path, *, model: nn.Module, average: nn.Module, optimisers: dict[str, Adam]
) -> Position:
    """Put the state back.

    Raises RunError when there is no checkpoint, it is damaged, or it belongs to another network.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise RunError(f"{folder} has no {CHECKPOINT_FILE}: start the run without --resume")
    try:
        position, tensors = _read(path)
        model.load_state_dict(_under(tensors, "model."))
        average.load_state_dict(_under(tensors, "average."))
        for title, optimiser in optimisers.items():
            moments = _moments(_under(tensors, f"{title}."))
            optimiser.load_state_dict(
                {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}
            )
            for (
                parameter,
                state,
            ) in (
                optimiser.state.items()
            ):  # the fused Adam walks memory, so a moment must lie as its weights do
                state |= {
                    k: torch.empty_like(parameter).copy_(v)
                    for k, v in state.items()
                    if v.shape == parameter.shape and v.ndim
                }
    except RuntimeError as error:
        raise RunError(f"{path} does not fit this run: {error}") from error
    return position


def _read(path: Path) -> tuple[Position, dict[str, Tensor]]:
    """Position and tensors, compared with their checksum. Raises RunError."""
    try:
        with safe_open(path, framework="pt") as file:
            position, checksum = _position(file.metadata())
            names = file.keys()  # it is no dict, and cannot be walked through itself
            tensors = {name: file.get_tensor(name) for name in names}
    except UNREADABLE as error:
        raise RunError(f"{path} is damaged ({error}): start the run again") from error
    if checksum and checksum != _sum(position, tensors):
        raise RunError(f"{path} is damaged: it differs from its checksum; start the run again")
    return position, tensors


def _position(metadata: dict[str, str]) -> tuple[Position, str]:
    """Position and checksum; "" in checkpoints of earlier versions, which have none."""
    values = json.loads(metadata["position"])
    checksum = values.pop(SUM, "")
    return Position(**values), checksum


def _sum(position: Position, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the position and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(repr(position).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def position_of(folder: Path) -> Position:
    """Where the run's checkpoint stands; raises RunError where there is none."""
    path = folder / CHECKPOINT_FILE
    try:
        with safe_open(path, framework="pt") as file:
            return _position(file.metadata())[0]
    except UNREADABLE as error:
        raise RunError(f"{path} cannot be read: {error}; start the run again") from error


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _moments(tensors: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, moment = name.split(".")
        state.setdefault(int(index), {})[moment] = tensor
    return state


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of every parameter; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for averaged, current in zip(average.buffers(), model.buffers(), strict=True):
        averaged.copy_(current)
