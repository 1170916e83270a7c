"""One run on several processes ("ranks", started by torchrun): each reads its share of every batch,
all learn from the whole of it.

A loss of a categorical GAN is not a mean over rows: a concordance, a contrast with other people, a
spread of latents belong to the whole batch. So what such a loss needs (logits, latents: small) is
gathered, every rank computes the whole batch's loss, and gradients flow through its own rows only;
losses that are means over rows or pixels are averaged over the ranks. Then the sum of the ranks'
gradients is the gradient of one process with the whole batch. docs/decisions/0013-ranks.md says why
not DistributedDataParallel.

Shape letters: B rows of a rank, W ranks. Row i of rank r is row i W + r of the whole batch.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn

from training.gan.checkpoint import RunError


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among `world`; alone unless torchrun started it."""

    rank: int = 0
    world: int = 1
    # a gloo group: flags travel beside the accelerator's stream, so that asking for one waits for
    # nothing
    control: Any = None

    @property
    def first(self) -> bool:
        """The one that writes files and shows progress."""
        return self.rank == 0

    def share(self, count: int, name: str) -> int:
        """This rank's part of a batch's `count` rows. Raises RunError when it does not divide."""
        if count % self.world:
            raise RunError(
                f"{name} is {count}, which {self.world} processes cannot share equally: "
                "start a number that divides it"
            )
        return count // self.world

    def gather(self, rows: Tensor) -> Tensor:
        """(B, ...) of every rank -> (B W, ...) in the order of the whole batch, the same
        everywhere; gradients flow to own rows only.
        """
        if self.world == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)  # type: ignore[no-untyped-call]
        return gathered

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the ranks of a value that is a mean over as many rows on each; gradients are
        this rank's share of it.
        """
        if self.world == 1:
            return value
        mean: Tensor = _Mean.apply(value, self)  # type: ignore[no-untyped-call]
        return mean

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes the sum over the ranks, in one call."""
        if self.world > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in gradients])
            torch._foreach_copy_(
                gradients,
                [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)],
            )

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank: all stop after the same step."""
        if self.world == 1:
            return flag
        largest = torch.tensor([int(flag)])
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.control)
        return bool(largest)


SINGLE_PROCESS = Ranks()


def join() -> Ranks:
    """The ranks that torchrun's environment names: NCCL where there is a GPU for each, gloo
    elsewhere; alone without torchrun.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return SINGLE_PROCESS
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            dist.init_process_group(
                backend, store=_store_of_attempt(), rank=int(os.environ["RANK"]), world_size=world
            )
        else:
            dist.init_process_group(backend)
    return Ranks(dist.get_rank(), world, dist.new_group(backend="gloo"))


def restarted() -> bool:
    """Whether torchrun started this process again after a rank was lost (--max-restarts)."""
    return _attempt() > 0


def _attempt() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _store_of_attempt() -> "dist.Store":  # type: ignore[name-defined]
    """torchrun's store outlives its restarts (torch 2.13): under the same keys, a new process would
    call the address of a dead one.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False)  # type: ignore[attr-defined]
    return dist.PrefixStore(f"attempt {_attempt()}", store)  # type: ignore[attr-defined]


class StepRandom:
    """Chance for one step: a rank draws what one process would draw for the whole batch and keeps
    its own rows.
    """

    def __init__(
        self, seed: int, *, ranks: Ranks = SINGLE_PROCESS, device: torch.device | str = "cpu"
    ) -> None:
        self.ranks, self.device = ranks, torch.device(device)
        self.generator = Generator().manual_seed(seed)  # on the CPU: the same on every device
        self._local = (
            Generator(self.device).manual_seed(seed)
            if self.device.type != "cpu"
            else self.generator
        )

    def rand(self, rows: int, *shape: int) -> Tensor:
        """(rows, ...) uniform in [0, 1)."""
        return self._own(torch.rand(rows * self.ranks.world, *shape, generator=self.generator))

    def scalar(self) -> float:
        """One number in [0, 1), the same on every rank."""
        return float(torch.rand((), generator=self.generator))

    def randn(self, rows: int, *shape: int) -> Tensor:
        """(rows, ...) standard normal."""
        return self._own(torch.randn(rows * self.ranks.world, *shape, generator=self.generator))

    def integers(self, below: int, rows: int) -> Tensor:
        """(rows,) of 0 ... below - 1."""
        return self._own(
            torch.randint(0, below, (rows * self.ranks.world,), generator=self.generator)
        )

    def pixel_noise(self, like: Tensor) -> Tensor:
        """Standard normal of the shape of (B, 3, S, S), drawn on the device of the pixels: a batch
        of noise is expensive to copy.
        """
        global_shape = (len(like) * self.ranks.world, *like.shape[1:])
        return torch.randn(global_shape, generator=self._local, device=self.device)[
            self.ranks.rank :: self.ranks.world
        ]

    def _own(self, values: Tensor) -> Tensor:
        local = values[self.ranks.rank :: self.ranks.world]
        return (
            local
            if self.device.type == "cpu"
            else local.pin_memory().to(self.device, non_blocking=True)
        )


class _SharedNorm(nn.BatchNorm2d):
    """Batch norm over the rows of all ranks (torch.nn.SyncBatchNorm wants GPUs)."""

    ranks: Ranks

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = x.float()
        moments = torch.stack([wide.mean(axes), wide.square().mean(axes)])
        mean, square = _SharedMean.apply(moments, self.ranks)  # type: ignore[no-untyped-call]
        variance = square - mean.square()
        with torch.no_grad():
            rows = self.ranks.world * x.numel() / x.shape[1]
            assert self.running_mean is not None and self.running_var is not None
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * rows / (rows - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normed: Tensor = (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)
        return normed

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # rows of features too


def synchronise_norms(network: nn.Module, ranks: Ranks) -> None:
    """Every batch norm of the network takes its statistics from the batches of all ranks."""
    if ranks.world > 1:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.__class__ = _SharedNorm
                module.ranks = ranks  # type: ignore[assignment]


class _SharedMean(torch.autograd.Function):
    """Mean over the ranks, whose gradient comes from the rows of all ranks."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        ctx.world = ranks.world
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / ranks.world

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total / ctx.world, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.dtype = ranks, rows.dtype
        sent = rows.contiguous().to(torch.uint8 if rows.dtype == torch.bool else torch.float32)
        parts = [torch.empty_like(sent) for _ in range(ranks.world)]
        dist.all_gather(parts, sent)
        return (
            torch.stack(parts, 1)
            .flatten(0, 1)
            .to(torch.bool if rows.dtype == torch.bool else torch.float32)
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.ranks.rank :: ctx.ranks.world].to(ctx.dtype), None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        ctx.world, ctx.dtype = ranks.world, value.dtype
        total = value.detach().float().clone()
        dist.all_reduce(total)
        return total / ranks.world

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient / ctx.world).to(ctx.dtype), None
