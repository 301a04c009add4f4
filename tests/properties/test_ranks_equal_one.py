"""Several ranks = one, however they share the work: weights and metrics."""

import pytest
import torch

from helpers import BALANCED
from ranks import learn, learn_and_tell, make_learner, on_ranks, told, weights

pytestmark = pytest.mark.multi

PLAIN = {"n_heads": 4, "d_ff": 48}
CASES = {
    "gpt": PLAIN
    | {"bias": True, "mlp": "gelu", "norm": "layernorm", "positions": "learned"},
    "grouped": PLAIN | {"n_kv_heads": 2, "qk_norm": True, "qkv_bias": True},
    "tied": PLAIN | {"tie_embeddings": True, "checkpoint_layers": True},
    "experts": PLAIN | {"experts": BALANCED, "checkpoint_layers": True},
    "watched": PLAIN | {"learner": {"watch_gradients": True, "max_norm": 0.1}},
}


def learn_every_case(folder, kind):
    """One after the other, since to start processes takes the longest."""
    for case, changes in CASES.items():
        (folder / case).mkdir(exist_ok=True)
        learn_and_tell(folder / case, kind, **changes)


@pytest.fixture(scope="module")
def alone():
    """What one process learns, of every case."""
    found = {}
    for case, changes in CASES.items():
        learner = make_learner("alone", **changes)
        found[case] = learn(learner), weights(learner)
    return found


@pytest.mark.parametrize(
    ("kind", "world", "tensor"),
    [("ddp", 2, 1), ("fsdp", 2, 1), ("fsdp", 2, 2), ("fsdp", 4, 2)],
    ids=["ddp", "fsdp", "tensor", "fsdp and tensor"],
)
def test_ranks_equal_one(kind, world, tensor, alone, tmp_path):
    """Accumulation, uneven weights, clipping, experts, layers that are recomputed."""
    on_ranks(world, learn_every_case, tmp_path, kind, tensor=tensor)
    for case, (curve, tensors) in alone.items():
        for rank in range(world):
            theirs, whole = told(tmp_path / case, rank)
            for mine, other in zip(curve, theirs, strict=True):
                assert other == pytest.approx(mine, rel=1e-5), case
            if whole or not rank:
                for name, tensor_ in tensors.items():
                    torch.testing.assert_close(
                        whole[name], tensor_, rtol=1e-5, atol=1e-5, msg=f"{case} {name}"
                    )
