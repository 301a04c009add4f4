"""Two ranks = one, weights and metrics, with batches of uneven weight."""

import json

import pytest
import torch
from safetensors.torch import load_file

from helpers import BALANCED, on_two_ranks, train_uneven

pytestmark = pytest.mark.multi


@pytest.mark.parametrize(
    ("model", "work"),
    [({}, "learn_on_two_ranks"), ({"experts": BALANCED}, "learn_with_experts")],
)
def test_two_ranks_equal_one(model, work, tmp_path):
    """With experts: routers' losses, the load summed over ranks, and what it nudges."""
    metrics, tensors = train_uneven(0, 1, steps=6, accumulate=2, **model)
    on_two_ranks(tmp_path, work)
    for rank in (0, 1):
        theirs = json.loads((tmp_path / f"{rank}.json").read_text())
        for ours, other in zip(metrics, theirs, strict=True):
            assert other == pytest.approx(ours, rel=1e-4)
        weights = load_file(tmp_path / f"{rank}.st")
        assert weights.keys() == tensors.keys()
        for name, tensor in tensors.items():
            if name.startswith("model."):
                torch.testing.assert_close(weights[name], tensor, rtol=2e-3, atol=2e-4)


def test_both_ranks_hold_the_very_same_weights(tmp_path):
    on_two_ranks(tmp_path, "learn_on_two_ranks")
    one, other = (load_file(tmp_path / f"{rank}.st") for rank in (0, 1))
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
