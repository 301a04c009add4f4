"""Counts agree with what is built, and with operations counted while they run."""

import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from folio.model import moe
from folio.model.config import Experts, Latent, ModelConfig, RopeScaling
from folio.model.count import count_parameters, flops_per_token
from folio.model.decoder import Decoder

GRID = list(
    itertools.product(
        ("learned", "sinusoidal", "rotary", "none"),
        (("layernorm", True), ("layernorm", False), ("rmsnorm", True)),
        ("gelu", "gelu_tanh", "swiglu"),
        (True, False),
        (1, 2, None),
    )
)


def config_of(positions, norm, mlp, tied, kv_heads) -> ModelConfig:
    return ModelConfig(
        vocab_size=23,
        max_seq_len=9,
        d_model=16,
        n_layers=3,
        n_heads=4,
        n_kv_heads=kv_heads,
        d_ff=None if tied else 20,
        positions=positions,
        norm=norm[0],
        bias=norm[1],
        mlp=mlp,
        tie_embeddings=tied,
    )


def test_parameters_are_counted_right_for_every_combination():
    for choice in GRID:
        config = config_of(*choice)
        model = Decoder(config)
        real = sum(p.numel() for p in model.parameters())
        counts = count_parameters(config)
        assert counts["total"] == real, choice
        assert counts["attention"] == sum(
            p.numel() for block in model.blocks for p in block.attention.parameters()
        )
        assert counts["mlp"] == sum(
            p.numel() for block in model.blocks for p in block.mlp.parameters()
        )


def test_a_known_model_has_its_known_size():
    gpt2 = ModelConfig(
        vocab_size=50257,
        max_seq_len=1024,
        d_model=768,
        n_layers=12,
        n_heads=12,
        positions="learned",
        norm="layernorm",
        mlp="gelu",
        bias=True,
    )
    assert count_parameters(gpt2)["total"] == 124_439_808  # GPT-2 small


def test_flops_of_a_model_small_enough_to_count_by_hand():
    config = ModelConfig(
        vocab_size=10, d_model=4, n_layers=2, n_heads=2, d_ff=8, mlp="gelu"
    )
    # a layer: attention 4 * 4 * 4 = 64 weights, mlp 2 * 4 * 8 = 64; the head 40
    # 6 * (2 * 128 + 40) = 1776; scores and mixes: 2 layers * 6 * 4 * length 5 = 240
    assert flops_per_token(config, 5) == 1776 + 240


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_flops_agree_with_torchs_counter(tied, kv_heads):
    config = config_of("rotary", ("rmsnorm", False), "swiglu", tied, kv_heads)
    model = Decoder(config)
    tokens = torch.zeros(2, 9, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens, targets=tokens).logprobs.sum().backward()
    # The counter takes the whole square of scores; half of it is masked away.
    half = 6 * config.n_layers * config.d_model * 9
    measured = counter.get_total_flops() / tokens.numel()
    assert measured == flops_per_token(config, 9) + half


# ---- the options ---------------------------------------------------------------------

OPTIONS = {
    "wide heads": {"head_dim": 6},
    "narrow heads": {"head_dim": 2, "n_kv_heads": 2},
    "qk_norm": {"qk_norm": True},
    "qkv_bias": {"qkv_bias": True},
    "no qkv_bias": {"qkv_bias": False, "bias": True},
    "post_norm": {"post_norm": True},
    "post_norm with biases": {"post_norm": True, "norm": "layernorm", "bias": True},
    "relu2": {"mlp": "relu2"},
    "geglu": {"mlp": "geglu", "bias": True},
    "experts": {"experts": Experts(4, 2)},
    "plain experts": {"experts": Experts(5, 1, width=24), "mlp": "relu2"},
    "shared experts": {"experts": Experts(4, 2, shared=2, width=8), "bias": True},
    "hybrid": {"experts": Experts(4, 1, router="sigmoid"), "mlp_pattern": "dbe"},
    "latent": {"latent": Latent(6, 2)},
    "latent queries": {"latent": Latent(6, 2, 5), "head_dim": 3, "bias": True},
    "window": {"window": 3, "sinks": 1, "attention_pattern": "wf"},
    "caps and scales": {
        "attention_softcap": 5.0,
        "logit_softcap": 9.0,
        "attention_scale": 0.2,
        "scale_embeddings": True,
        "rope_fraction": 0.5,
        "rope_scaling": RopeScaling("linear", 2.0),
    },
}


def model_with(**changes) -> Decoder:
    fields = {
        "vocab_size": 23,
        "max_seq_len": 9,
        "d_model": 16,
        "n_layers": 3,
        "n_heads": 4,
    }
    return Decoder(ModelConfig(**(fields | changes)))


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_are_counted_right_for_every_option(name):
    model = model_with(**OPTIONS[name])
    counts, named = count_parameters(model.config), dict(model.named_parameters())
    assert counts["total"] == sum(p.numel() for p in named.values())
    for part, word in (("attention", ".attention."), ("routers", ".router.")):
        wanted = sum(p.numel() for n, p in named.items() if word in n)
        assert counts.get(part, 0) == wanted
    norms = [n for n in named if n.split(".")[-2].endswith("norm")]
    norms = [n for n in norms if ".attention." not in n]
    assert counts["norms"] == sum(named[n].numel() for n in norms)


def test_one_token_meets_only_its_experts():
    model = model_with(experts=Experts(6, 2, shared=1, width=8))
    part = model.blocks[0].moe
    whole, met = (
        count_parameters(model.config, active_only=active) for active in (False, True)
    )
    one = 3 * 8 * 16
    assert one == sum(p[0].numel() for p in part.experts.parameters())
    assert whole["experts"] == 3 * 7 * one
    assert met["experts"] == 3 * 3 * one
    assert whole["total"] - met["total"] == 3 * 4 * one
    assert {k: v for k, v in whole.items() if k not in ("experts", "total")} == {
        k: v for k, v in met.items() if k not in ("experts", "total")
    }


@pytest.mark.parametrize("name", [n for n in OPTIONS if "bias" not in n])
def test_flops_agree_with_torchs_counter_for_every_option(name, monkeypatch):
    changes = OPTIONS[name] | {"bias": False}
    model = model_with(**changes).train()
    for block in model.blocks:
        block.attention.path = "reference"  # whose every product is counted
    monkeypatch.setattr(moe, "HAS_KERNEL", False)  # the counter doesn't know it
    tokens, config = torch.arange(18).view(2, 9), model.config
    with FlopCounterMode(display=False) as counter:
        model(tokens, targets=tokens).logprobs.sum().backward()
    measured = counter.get_total_flops() / tokens.numel()
    # Gains of norms inside attention are no products, but are counted as if
    gains = sum(
        p.numel()
        for n, p in model.named_parameters()
        if ".attention." in n and n.endswith("gain")
    )
    # The counter takes the whole square of scores, whatever is seen of it, and a
    # second one for sinks, which have a product of their own
    rope = config.latent.rope_width if config.latent else 0
    scores = 6 * config.n_heads * (config.head_width + rope) * 9
    mixes = 6 * config.n_heads * config.head_width * 9
    expected = flops_per_token(config, 9) - 6 * gains
    for window in config.layer_windows:
        seen = min(9, 2 * (window or 9))
        expected += (scores + mixes) * (1 - seen / 18)
        if window is not None and config.sinks:
            expected += scores
    assert measured == pytest.approx(expected, rel=1e-9)
