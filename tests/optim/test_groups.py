"""Decay falls on matrices once each, and on nothing else."""

import itertools

import pytest
from torch import nn

from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.optim.adamw import adamw
from folio.optim.groups import decay_groups


def model_of(tied: bool, norm: str, positions: str, mlp: str) -> Decoder:
    return Decoder(
        ModelConfig(
            vocab_size=11,
            d_model=8,
            n_layers=2,
            n_heads=2,
            bias=True,
            tie_embeddings=tied,
            norm=norm,
            positions=positions,
            mlp=mlp,
        )
    )


@pytest.mark.parametrize(
    ("tied", "norm", "positions", "mlp"),
    list(
        itertools.product(
            (True, False),
            ("layernorm", "rmsnorm"),
            ("learned", "rotary"),
            ("gelu", "swiglu"),
        )
    ),
)
def test_every_parameter_is_in_one_group_once(tied, norm, positions, mlp):
    model = model_of(tied, norm, positions, mlp)
    decayed, plain = decay_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = decayed["names"] + plain["names"]
    assert len(names) == len(set(names))
    parameters = decayed["params"] + plain["params"]
    assert len({id(p) for p in parameters}) == len(parameters)
    assert {id(p) for p in parameters} == {id(p) for p in model.parameters()}
    own = dict(model.named_parameters())
    for group in (decayed, plain):
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert own[name] is parameter
    assert ("head.weight" in names) != tied
    for name in decayed["names"]:
        assert name.endswith("weight")
    for name in plain["names"]:
        assert name.endswith(("bias", "gain"))


def test_frozen_parameters_stay_out():
    model = model_of(True, "rmsnorm", "rotary", "gelu")
    model.requires_grad_(False)
    model.blocks[0].mlp.up.weight.requires_grad_(True)
    (group,) = decay_groups(model, 0.1)
    assert group["names"] == ["blocks.0.mlp.up.weight"]


def test_the_optimizer_gets_the_groups():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    matrices, vectors = adamw(model, weight_decay=0.3).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert matrices["names"] == ["0.weight"]
    assert vectors["names"] == ["0.bias", "1.weight", "1.bias"]
