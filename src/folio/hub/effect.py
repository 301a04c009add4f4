"""When are two configurations the same model, and what keeps them apart?"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

from folio.hub.rope import plain_theta
from folio.model.config import Experts, ModelConfig
from folio.model.positions import rotary_magnitude


def differences(one: ModelConfig, other: ModelConfig) -> set[str]:
    """The options in which two models compute differently, given equal weights."""
    a, b = effect(one), effect(other)
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


def effect(config: ModelConfig) -> dict[str, Any]:
    """What a configuration says about the logits, every default spelled out.

    Left out is what only training feels: dropout, how weights begin, and the losses
    of routers.
    """
    values = dataclasses.asdict(config)
    for name in ("dropout", "init", "embedding_std", "experts"):
        del values[name]
    values |= {
        "n_kv_heads": config.kv_heads,
        "head_dim": config.head_width,
        "d_ff": config.ff_width if set(config.layer_mlps) & set("db") else None,
        "mlp_pattern": config.layer_mlps,
        "attention_pattern": [window is not None for window in config.layer_windows],
        "qkv_bias": config.bias if config.qkv_bias is None else config.qkv_bias,
        "attention_scale": config.attention_scale or 1 / math.sqrt(config.head_width),
    }
    return values | _effect_of_rope(config) | _effect_of_experts(config)


def _effect_of_rope(config: ModelConfig) -> dict[str, Any]:
    if config.positions != "rotary":
        return {"rope_theta": None, "rope_fraction": None, "rope_scaling": None}
    theta, scaling = plain_theta(config)
    if scaling is not None:
        scaling = dataclasses.replace(
            scaling,
            high=scaling.high_turns,
            magnitude=rotary_magnitude(config),
        )
        if scaling.kind == "linear":
            scaling = scaling.factor
    return {
        "rope_theta": theta,
        "rope_fraction": config.rotary_width,
        "rope_scaling": scaling,
    }


def _effect_of_experts(config: ModelConfig) -> dict[str, Any]:
    if config.experts is None:
        return {}
    names = ("count", "active", "shared", "router", "renormalize")
    values = {f"experts.{name}": getattr(config.experts, name) for name in names}
    return values | {"experts.width": config.expert_width}


def refusal(config: ModelConfig, lacks: dict[str, set[str]], kind: str) -> str:
    """Which option no family has, or which one the nearest family lacks.

    lacks: for each family by its name the options in which it would differ. `kind` is
    what families are called in the message.
    """
    everywhere = set.intersection(*lacks.values())
    nearest = min(lacks, key=lambda name: len(lacks[name]))
    order = [field.name for field in dataclasses.fields(config)]
    usual = dataclasses.replace(ModelConfig(), experts=Experts())

    def value(option: str, config: ModelConfig = config) -> Any:
        return functools.reduce(getattr, option.split("."), config)

    def rank(option: str) -> tuple:
        """First what was set to something unusual, then as the fields are listed."""
        found, place = value(option), order.index(option.split(".")[0])
        return found == value(option, usual), found is None, place, option

    # What the user has set says more than a default that goes with it
    everywhere = {o for o in everywhere if value(o) != value(o, usual)}
    option = min(everywhere or lacks[nearest], key=rank)
    start = f"{option} = {value(option)!r}: "
    if everywhere and len(lacks) > 1:
        return start + f"no {kind} has it"
    if len(lacks) > 1:
        return start + (
            f"the nearest {kind}, {nearest!r}, doesn't have it, and no other has all "
            "of this model's options"
        )
    return start + f"the {kind} {nearest!r} doesn't have it"
