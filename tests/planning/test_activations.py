"""What the planner thinks that a forward keeps is what autograd does keep."""

import contextlib
from collections import Counter

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from folio.model.config import Experts, Latent, gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.planning.activations import (
    attention,
    cut,
    dense,
    kept_by_all,
    kept_by_head,
    kept_by_layer,
)
from folio.planning.work import Work
from folio.training.twin import Twin

B, T = 3, 96
SHAPE = {"vocab_size": 512, "d_model": 64, "n_layers": 2, "n_heads": 4}
SHAPE["max_seq_len"] = T
VARIANTS = {
    "plain": {},
    "grouped": {"n_kv_heads": 2},
    "windowed": {"window": 16, "attention_pattern": "wf"},
    "sinks": {"window": 16, "sinks": 2},
    "softcaps": {"attention_softcap": 5.0, "logit_softcap": 3.0},
    "dropout": {"dropout": 0.1},
    "qk_norm": {"qk_norm": True},
    "post_norm": {"post_norm": True},
    "relu2": {"mlp": "relu2"},
    "latent": {"latent": Latent(32, 8, 48)},
    "experts": {"experts": Experts(4, 2, width=40)},
    "both": {"experts": Experts(4, 2, shared=1), "mlp_pattern": "eb"},
}


def saved_bytes(config, precision):
    """Bytes of every tensor that autograd saves of one forward, weights left out."""
    model = Decoder(config)
    model = Twin(model).model if precision == "bf16-weights" else model
    cast = contextlib.nullcontext()
    if precision == "bf16":
        cast = torch.autocast("cpu", torch.bfloat16)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    matrices = [p for p in model.parameters() if p.ndim > 1]
    shapes = {shape for p in matrices for shape in (p.shape, p.mT.shape)}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        rounded = tensor.dtype == torch.bfloat16 and tensor.shape in shapes
        if storage.data_ptr() not in own and not rounded:
            kept[storage.data_ptr()] = tensor
        return tensor

    tokens = torch.randint(config.vocab_size, (B, T))
    with saved_tensors_hooks(pack, lambda tensor: tensor), cast:
        model.train()(tokens, targets=tokens)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def planned_bytes(config, work):
    layers = [kept_by_layer(config, work, i) for i in range(config.n_layers)]
    total = sum((Counter(layer) for layer in layers), Counter()).total()
    return total + kept_by_head(config, work) + kept_by_all(config, work)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-weights"])
@pytest.mark.parametrize("name", ["gpt2", *VARIANTS])
def test_every_kept_number_is_counted(name, precision):
    config = gpt2_like(**SHAPE) if name == "gpt2" else llama_like(**SHAPE)
    if name in VARIANTS:
        config = llama_like(**SHAPE | VARIANTS[name])
    plan = planned_bytes(config, Work(B, T, precision, cuda=False))
    assert plan == pytest.approx(saved_bytes(config, precision), rel=0.015)


def test_34_bytes_per_token_and_width():
    """Korthikanti et al. 2022, section 4.1: GPT-2's layer, 16 bits, fused attention."""
    config = gpt2_like(**SHAPE | {"d_model": 1024, "dropout": 0.1, "n_layers": 1})
    kept = kept_by_layer(config, Work(B, T, "zero"), 0)
    per_number = {part: size / (B * T * 1024) for part, size in kept.items()}
    assert per_number["attention"] == pytest.approx(11, abs=0.05)
    assert per_number["mlp"] == pytest.approx(19)
    assert sum(per_number.values()) == pytest.approx(34, abs=0.1)


def test_tensor_parallelism_cuts_what_is_inside():
    """Of 34: 10 stay whole, 24 are cut (Korthikanti et al. 2022, eq. 2)."""
    config = gpt2_like(**SHAPE | {"d_model": 1024, "dropout": 0.1, "n_layers": 1})
    kept = kept_by_layer(config, Work(B, T, "zero", tensor=4), 0)
    assert sum(kept.values()) / (B * T * 1024) == pytest.approx(10 + 24 / 4, abs=0.1)


def test_scores_are_kept_only_where_no_kernel_spares_them():
    config = llama_like(**SHAPE)
    spared = attention(config, Work(B, T), None)
    assert attention(config, Work(B, 2 * T), None) == spared
    explicit = [
        attention(config, Work(B, length, "bf16", cuda=False), None)
        for length in (T, 2 * T)
    ]
    assert explicit[1] - explicit[0] == pytest.approx(2 * config.n_heads * T)
    assert dense(config, Work(B, T), 100) == 4 * (64 + 400)


def test_logits_that_are_cut_are_not_kept():
    config = llama_like(**SHAPE | {"vocab_size": 2**17})
    few, many = Work(1, 128), Work(1, 129)
    assert not cut(config, few)
    assert cut(config, many)
    assert kept_by_head(config, few) > 100 * kept_by_head(config, many)
