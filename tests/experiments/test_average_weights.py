"""Reading networks of two models, averaged."""

import pytest
import torch

from affect.model import AffectModel
from experiments.average_weights import average_readers
from tests.support.tiny import tiny_card, tiny_model


def _reader(model: AffectModel, seed: int) -> AffectModel:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.startswith("reader.") and tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor))
    return model


def test_a_share_of_one_network_and_the_rest_of_the_other_read_together() -> None:
    before, after = (_reader(tiny_model(tiny_card(reader=True)), seed) for seed in (1, 2))
    name = next(n for n, t in after.state_dict().items() if n.startswith("reader.") and t.ndim > 1)
    expected = 0.25 * before.state_dict()[name] + 0.75 * after.state_dict()[name]
    average_readers(before, after, 0.75)
    assert torch.equal(after.state_dict()[name], expected.bfloat16().float())  # files half as long


def test_models_of_different_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in network"):
        average_readers(tiny_model(), tiny_model(tiny_card(reader=True)), 0.5)
