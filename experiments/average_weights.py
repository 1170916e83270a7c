"""The reading networks of two models averaged: what a run forgot of its beginning comes back.

python -m experiments.average_weights BEFORE AFTER --share .75 --out FOLDER

Weights of a run and of what it began from lie in one valley of the loss; between them a model keeps
more of what the first knew outside the data of the second (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", arXiv 2109.01903). Everything but the reading network is AFTER's.
"""

import argparse
from pathlib import Path

import torch

from affect.factory import load_model
from affect.model import AffectModel
from affect.precision import round_to_bfloat16


@torch.no_grad()
def average_readers(before: AffectModel, after: AffectModel, share: float) -> AffectModel:
    """`after` with its reading network between both: `share` of it in [0, 1], the rest of `before`.

    Raises ValueError when the networks differ in size or vocabulary.
    """
    if before.card.network != after.card.network or before.card.vocabulary != after.card.vocabulary:
        raise ValueError("the models differ in network or vocabulary: average runs of one model")
    theirs = before.state_dict()
    for name, tensor in after.state_dict().items():
        if name.startswith("reader.") and tensor.is_floating_point():
            mean = torch.lerp(theirs[name].float(), tensor.float(), share)
            tensor.copy_(mean.to(tensor.dtype))
    round_to_bfloat16(after)  # as training does, so that the file stays half as long
    return after


def main() -> None:
    """Average two folders into a third."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, default=0.75, help="of AFTER, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"--out {options.out} exists: nothing is overwritten, give another folder")
    options.out.mkdir(parents=True)
    models = load_model(options.before), load_model(options.after)
    average_readers(*models, options.share).save(options.out)


if __name__ == "__main__":
    main()
