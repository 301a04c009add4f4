"""Counts agree with what is built, and with operations counted while they run."""

import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from folio.model.config import ModelConfig
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
