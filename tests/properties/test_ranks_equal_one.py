"""Several ranks = one, however they share the work: weights and metrics."""

import pytest
import torch

from folio.model.config import Latent
from folio.model.lora import LoRA
from folio.optim.muon import muon
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
    "lora": PLAIN | {"bias": True, "lora": LoRA(3, targets=("attention.*", "mlp.*"))},
    "latent": PLAIN
    | {"latent": Latent(8, 4, query_rank=12), "learner": {"max_norm": 1}},
    "muon": PLAIN | {"optimizer": muon},
    "watched": PLAIN | {"learner": {"watch_gradients": True, "max_norm": 0.1}},
}


def learn_every_case(folder, kind):
    """One after the other, since to start processes takes the longest."""
    for case, changes in CASES.items():
        (folder / case).mkdir(exist_ok=True)
        learn_and_tell(folder / case, kind, changes)


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


HALF = PLAIN | {"learner": {"precision": "bf16-weights"}, "optimizer": muon}


def test_bf16_weights_in_parts_equal_a_whole_twin(tmp_path):
    """The same rows in each product, so that nothing but sums in fp32 may differ."""
    on_ranks(2, learn_and_tell, tmp_path, "fsdp", HALF)
    learner = make_learner("alone", **HALF)
    wanted = learn(learner, accumulate=4, rows=2)
    found, whole = told(tmp_path, 0)
    for mine, theirs in zip(wanted, found, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4)
    for name, tensor in weights(learner).items():
        torch.testing.assert_close(whole[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow  # two processes that compile
@pytest.mark.parametrize("tensor", [1, 2])
def test_compiled_blocks_in_parts_equal_one(tensor, tmp_path):
    on_ranks(
        2, learn_and_tell, tmp_path, "fsdp", PLAIN | {"compiled": True}, tensor=tensor
    )
    learner = make_learner("alone", **PLAIN)
    wanted = learn(learner)
    found, whole = told(tmp_path, 0)
    for mine, theirs in zip(wanted, found, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5)
    for name, other in weights(learner).items():
        torch.testing.assert_close(whole[name], other, rtol=1e-5, atol=1e-5, msg=name)
