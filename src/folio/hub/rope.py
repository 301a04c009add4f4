"""Rotary positions in a configuration file: two spellings of the same thing."""

from __future__ import annotations

import math
from typing import Any

from folio.config import UserError
from folio.hub.keys import Keys
from folio.model.config import ModelConfig, RopeScaling

SUPPORTED = "default, linear, llama3, yarn"


def read_rope(keys: Keys, theta: float = 10_000.0) -> dict[str, Any]:
    """rope_theta and rope_scaling of a `ModelConfig`; `theta` if the file has none.

    transformers 5 writes all of it into `rope_parameters`; before, `rope_theta` stood
    beside `rope_scaling`, whose `rope_type` was once called `type`. A file may have
    both spellings, but they must agree.
    """
    beside = keys.take("rope_theta", float, None)
    old = keys.take("rope_scaling", dict, None)
    new = keys.take("rope_parameters", dict, None)
    length = keys.values.get("max_position_embeddings")
    spellings = [
        _read(Keys(values), beside, theta, length)
        for values in (old, new)
        if values is not None
    ]
    if not spellings:
        return {"rope_theta": theta if beside is None else beside}
    if spellings[0] != spellings[-1]:
        raise UserError(
            f"rope_scaling = {old} and rope_parameters = {new} contradict each other; "
            "delete the wrong one from config.json"
        )
    return spellings[0]


def _read(
    keys: Keys, beside: float | None, default: float, length: Any
) -> dict[str, Any]:
    """One spelling, `keys` being those of its table."""
    once = keys.take("type", str, None)
    kind = keys.take("rope_type", str, once or "default")
    if once not in (None, kind):
        raise UserError(f"rope_type = {kind!r}, but type = {once!r}")
    theta = keys.take("rope_theta", float, beside)
    if beside is not None and theta != beside:
        raise UserError(f"rope_theta = {beside}, but in rope_parameters it is {theta}")
    scaling = None
    if kind == "linear":
        scaling = RopeScaling("linear", keys.take("factor", float))
    elif kind in ("llama3", "yarn"):
        original = keys.take("original_max_position_embeddings", int, length)
        read = _read_llama3 if kind == "llama3" else _read_yarn
        factor = keys.take("factor", float)
        scaling = RopeScaling(kind, factor, original, **read(keys, factor))
    elif kind != "default":
        raise UserError(f"rope_type = {kind!r}: supported are {SUPPORTED}")
    keys.finish()
    return {
        "rope_theta": default if theta is None else theta,
        "rope_scaling": scaling,
    }


def _read_llama3(keys: Keys, factor: float) -> dict[str, Any]:
    return {
        "low": keys.take("low_freq_factor", float),
        "high": keys.take("high_freq_factor", float),
    }


def _read_yarn(keys: Keys, factor: float) -> dict[str, Any]:
    if not keys.take("truncate", bool, True):
        raise UserError("truncate = false of a YaRN is not supported, only true")
    magnitude = keys.take("attention_factor", float, None)
    scale = keys.take("mscale", float, None)
    base = keys.take("mscale_all_dim", float, None)
    if magnitude is None and scale and base:  # DeepSeek's two numbers instead of one
        grown = 0.1 * math.log(factor)
        magnitude = (scale * grown + 1) / (base * grown + 1)
    return {
        "low": keys.take("beta_slow", float, 1.0),
        "high": keys.take("beta_fast", float, None),
        "magnitude": magnitude,
    }


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """Both spellings, for transformers 5 and for what came before it."""
    theta, scaling = plain_theta(config)
    values: dict[str, Any] = {"rope_type": scaling.kind if scaling else "default"}
    if scaling is not None:
        values["factor"] = scaling.factor
        if scaling.kind != "linear":
            values["original_max_position_embeddings"] = scaling.original_len
        if scaling.kind == "llama3":
            values["low_freq_factor"] = scaling.low
            values["high_freq_factor"] = scaling.high_turns
        if scaling.kind == "yarn":
            values["beta_slow"] = scaling.low
            for name, value in (
                ("beta_fast", scaling.high),
                ("attention_factor", scaling.magnitude),
            ):
                if value is not None:
                    values[name] = value
    return {
        "rope_theta": theta,
        "rope_scaling": values if scaling else None,
        "rope_parameters": values | {"rope_theta": theta},
    }


def plain_theta(config: ModelConfig) -> tuple[float, RopeScaling | None]:
    """Theta and scaling, a scaling of kind ntk being nothing but a larger theta."""
    theta, scaling = config.rope_theta, config.rope_scaling
    if scaling is None or scaling.kind != "ntk":
        return theta, scaling
    width = config.rotary_width
    return theta * scaling.factor ** (width / max(width - 2, 1)), None
