"""Qwen 2, 2.5 and 3 (Yang et al. 2024, 2025): biases first, then normed heads."""

from __future__ import annotations

from typing import Any

from folio.config import UserError
from folio.hub.family import Family, shortest_pattern
from folio.hub.keys import Keys
from folio.hub.llama import (
    FIELDS,
    HEAD_NORMS,
    LAYER,
    OURS,
    llama_table,
    norm_rows,
    read_parts,
    write_parts,
)
from folio.hub.names import STACK, Row
from folio.hub.windows import read_layer_types, write_layer_types
from folio.model.config import Experts, ModelConfig

EXPERTS = f"{LAYER}.mlp.experts.{{expert}}"
EXPERT_ROWS = (
    Row(f"{LAYER}.mlp.gate.weight", f"{OURS}.moe.router.score.weight"),
    *(
        Row(f"{EXPERTS}.{name}_proj.weight", f"{OURS}.moe.experts.{name}", STACK)
        for name in ("gate", "up", "down")
    ),
)


def read_windows(keys: Keys) -> dict[str, Any]:
    """The layers from max_window_layers on have a window, if windows are used at all.

    (That the name says the opposite is known.)
    """
    layers = keys.take("num_hidden_layers", int)
    window = keys.take("sliding_window", int, None)
    full = keys.take("max_window_layers", int, 28)
    if not keys.take("use_sliding_window", bool, False):
        window = None
    full = layers if window is None else min(max(full, 0), layers)
    return read_layer_types(keys, window, "f" * full + "w" * (layers - full))


def write_windows(config: ModelConfig) -> dict[str, Any]:
    kinds = write_layer_types(config)
    first = config.windowed_layers[0] if config.windowed_layers else config.n_layers
    return {
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": first,  # for those that don't read layer_types
        "layer_types": kinds,
    }


def read_qwen2(keys: Keys) -> dict[str, Any]:
    return read_parts(keys) | read_windows(keys) | {"qkv_bias": True}


def write_qwen2(config: ModelConfig) -> dict[str, Any]:
    return write_parts(config) | write_windows(config)


QWEN2 = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    table=llama_table(),
    fields=FIELDS,
    read=read_qwen2,
    write=write_qwen2,
)


def read_qwen3(keys: Keys) -> dict[str, Any]:
    parts = read_parts(keys, head_dim=128)
    return parts | read_windows(keys) | {"qk_norm": True}


QWEN3 = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    table=llama_table(*norm_rows(HEAD_NORMS)),
    fields=FIELDS,
    read=read_qwen3,
    write=write_qwen2,
)


def read_qwen3_moe(keys: Keys) -> dict[str, Any]:
    count = keys.take("num_local_experts", int, None)  # as transformers 5 calls it
    experts = Experts(
        count=keys.take("num_experts", int, count or 128),
        active=keys.take("num_experts_per_tok", int),
        width=keys.take("moe_intermediate_size", int),
        renormalize=keys.take("norm_topk_prob", bool, False),
        balance=keys.take("router_aux_loss_coef", float, 0.001),
    )
    if count not in (None, experts.count):
        raise UserError(
            f"num_local_experts = {count}, but num_experts = {experts.count}"
        )
    windows, mlps = _read_one_window(keys), _read_mlp_pattern(keys)
    parts = read_parts(keys) | {"qk_norm": True, "experts": experts}
    return parts | windows | mlps


def _read_one_window(keys: Keys) -> dict[str, Any]:
    """transformers 4 gave it to the layers from max_window_layers on, 5 to all."""
    window = keys.take("sliding_window", int, None)
    first = keys.take("max_window_layers", int, 0)
    if not keys.take("use_sliding_window", bool, False) or window is None:
        return {}
    if first > 0:
        raise UserError(
            f"max_window_layers = {first}: versions of transformers disagree about "
            "what it means here; only 0, a window in every layer, is supported"
        )
    return {"window": window}


def _read_mlp_pattern(keys: Keys) -> dict[str, Any]:
    layers, dense = keys.take("num_hidden_layers", int), set()
    step = keys.take("decoder_sparse_step", int, 1)
    if step < 1:
        raise UserError(f"decoder_sparse_step = {step}: must be at least 1")
    for layer in keys.take("mlp_only_layers", list, []):
        if type(layer) is not int or not 0 <= layer < layers:
            raise UserError(f"mlp_only_layers has {layer!r}: no layer of {layers}")
        dense.add(layer)
    letters = "".join(
        "d" if i in dense or (i + 1) % step else "e" for i in range(layers)
    )
    pattern = shortest_pattern(letters)
    return {"mlp_pattern": None if pattern == "e" else pattern}


def write_qwen3_moe(config: ModelConfig) -> dict[str, Any]:
    experts = config.experts or Experts(width=config.ff_width)
    width = config.expert_width if config.experts else config.ff_width
    return write_parts(config) | {
        "num_experts": experts.count,
        "num_experts_per_tok": experts.active,
        "moe_intermediate_size": width,
        "norm_topk_prob": experts.renormalize,
        "router_aux_loss_coef": experts.balance,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [i for i, k in enumerate(config.layer_mlps) if k == "d"],
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": 0,
    }


QWEN3_MOE = Family(
    name="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    table=llama_table(*norm_rows(HEAD_NORMS), *EXPERT_ROWS),
    fields=FIELDS,
    read=read_qwen3_moe,
    write=write_qwen3_moe,
)
