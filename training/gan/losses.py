"""The losses of the categorical GAN, one function per equation: tensors in, a scalar tensor out.

Shape letters: B rows, K Action Units, Z latent, E identity, S side in px. NaN in a label is "not
annotated" and weighs nothing.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

FAR = -1e4  # a logit far below that of every candidate


def au_loss(logits: Tensor, intensities: Tensor) -> Tensor:
    """L_au = mean over known labels of BCE(l, a), a in [0, 1], so that sigmoid(l) estimates the
    intensity. (B, K) twice.
    """
    known = ~torch.isnan(intensities)
    elementwise = F.binary_cross_entropy_with_logits(
        logits, torch.nan_to_num(intensities), reduction="none"
    )
    return (elementwise * known).sum() / known.sum().clamp(min=1)


def ccc(x: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor:
    """Concordance (Lin 1989) of columns: 2 cov / (var x + var y + (mean x - mean y)^2).

    (B, D) twice -> (D,); `known` weighs the rows (B,), or those of each column (B, D).
    """
    weight = x.new_ones(len(x), 1) if known is None else known.view(len(x), -1).to(x.dtype)
    count = weight.sum(0).clamp(min=1e-6)
    mean_x, mean_y = (weight * x).sum(0) / count, (weight * y).sum(0) / count
    off_x, off_y = weight * (x - mean_x), weight * (y - mean_y)
    spread = (off_x.square() + off_y.square()).sum(0) / count + (mean_x - mean_y) ** 2
    return 2 * (off_x * off_y).sum(0) / count / (spread + 1e-6)


def va_loss(va: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """L_va = 1/2 MSE + 1/2 (1 - (CCC_v + CCC_a) / 2) over rows that know both. (B, 2) twice.

    `weight` (B,) in [0, 1] says how much each row counts.
    """
    known = ~torch.isnan(target).any(1)
    # No rows are picked: their number would have to be waited for on a GPU.
    y = torch.where(known[:, None], target, va.detach())
    share = known.to(va.dtype) if weight is None else known * weight
    total = share.sum().clamp(min=1e-6)
    squared = ((va - y).square() * share[:, None]).sum() / (va.shape[1] * total)
    concordance = ccc(va, y, share).mean()
    # A concordance needs two points.
    return (0.5 * squared + 0.5 * (1 - concordance)) * (known.sum() >= 2)


def label_loss(logits: Tensor, va: Tensor, y: Tensor, au_weight: float, va_weight: float) -> Tensor:
    """L_aux of logits (B, K) and va (B, 2) against label rows (B, K + 2)."""
    return au_weight * au_loss(logits, y[:, :-2]) + va_weight * va_loss(va, y[:, -2:])


def relativistic(winner: Tensor, loser: Tensor, weight: Tensor | None = None) -> Tensor:
    """softplus(c(loser) - c(winner)), the relativistic pairing loss (Jolicoeur-Martineau 2018;
    R3GAN 2024). (B,) or (B, P) twice, `weight` (B,); nothing where P is 0.
    """
    if not winner.numel():
        return winner.sum()
    per_face = F.softplus(loser - winner).reshape(len(winner), -1).mean(1)
    return (per_face if weight is None else weight * per_face).mean()


def gradient_penalty(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """R1 on real, R2 on drawn faces: mean |grad_x c(x)|^2 (Mescheder et al. 2018). x (B, 3, S,
    S).
    """
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def reconstruction_loss(
    drawn: Tensor, true: Tensor, start: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Mean over scales 1, 1/2, 1/4 of |w (drawn - true)|_1, w = 1 + 25 clip(|true - start|, 0, .4).

    Pixels in [0, 1] inside; all (B, 3, S, S) in [-1, 1]. `start` is the face before the change:
    where the state changed, an error weighs up to eleven times as much, because these few pixels
    are the whole expression. `rows` (B,) weighs each picture.
    """
    drawn, true, start = (0.5 * (image + 1) for image in (drawn, true, start))
    weight = 1 + 25 * (true - start).abs().amax(1, keepdim=True).clamp(0, 0.4)
    if rows is not None:
        weight = weight * rows[:, None, None, None]
    total = drawn.new_zeros(())
    for scale in range(3):
        total = total + (weight * (drawn - true).abs()).mean() / 3
        if scale < 2:
            drawn, true, weight = (F.avg_pool2d(image, 2) for image in (drawn, true, weight))
    return total


def feature_loss(
    drawn: Sequence[Tensor],
    true: Sequence[Tensor],
    average: Callable[[Tensor], Tensor] = lambda means: means,
) -> Tensor:
    """Mean over the trunk's levels of |F_i(drawn) - F_i(true)|_1 / mean |F_i(true)| (Larsen et al.,
    VAE/GAN, 2016).

    `average` makes the levels' means (2, levels) those of the whole batch when it is spread over
    processes.
    """
    differences = torch.stack([(a - b).abs().mean() for a, b in zip(drawn, true, strict=True)])
    size = torch.stack([b.abs().mean() for b in true])
    differences, size = average(torch.stack([differences, size]))
    ratio: Tensor = differences / (size.detach() + 1e-3)
    return ratio.mean()


def identity_loss(a: Tensor, b: Tensor, paired: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE (van den Oord et al. 2018), both ways: row i of a and b (B, E, unit length) is one
    person where `paired` (B,).
    """
    logits = a @ b.T / temperature
    # others are no candidates; masked, not picked, as in `va_loss`
    logits = logits.masked_fill(~(paired[:, None] & paired[None]), FAR)
    same = torch.arange(len(logits), device=logits.device)
    per_face = F.cross_entropy(logits, same, reduction="none") + F.cross_entropy(
        logits.T, same, reduction="none"
    )
    count = paired.sum()
    return 0.5 * (per_face * paired).sum() / count.clamp(min=1) * (count >= 2)


def latent_loss(recovered: Tensor, z: Tensor) -> Tensor:
    """|E(x~) - z|^2 / Z, in units of the latent's own spread. (B, Z) twice."""
    return F.mse_loss(recovered, z) / (z.var(0, unbiased=False).mean() + 1e-3).detach()
