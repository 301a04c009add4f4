"""Gemma 1 and 2 (Gemma Team 2024): scaled embeddings, gains that start from zero."""

from __future__ import annotations

import math
from typing import Any

from folio.config import UserError
from folio.hub.family import Family
from folio.hub.keys import Keys
from folio.hub.llama import FIELDS as LLAMA_FIELDS
from folio.hub.llama import (
    NORMS,
    changed,
    check_whole_heads,
    llama_rows,
    read_parts,
    write_parts,
)
from folio.hub.names import ADD_ONE, Table
from folio.hub.windows import read_layer_types, write_layer_types
from folio.model.config import ModelConfig

# Old files say "gelu" and mean its tanh form
ACTIVATIONS = {"gelu_pytorch_tanh": "geglu", "gelu": "geglu"}
FIELDS = changed(LLAMA_FIELDS, tie_embeddings=True)
GEMMA2_NORMS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_post_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


def table(norms: dict[str, str]) -> Table:
    """Llama's matrices; the gains of Gemma's norms lack the one that ours have."""
    rows = llama_rows(norms, ADD_ONE)
    return Table(rows, "model.", surplus=(".rotary_emb.inv_freq",))


def read_gemma(keys: Keys) -> dict[str, Any]:
    # A second name for hidden_act, which means what it says
    exact = {"gelu_pytorch_tanh": "geglu"}
    keys.choose("hidden_activation", exact, "gelu_pytorch_tanh")
    parts = read_parts(keys, activations=ACTIVATIONS, head_dim=256)
    return parts | {"scale_embeddings": True}


def write_gemma(config: ModelConfig) -> dict[str, Any]:
    name = "gelu_pytorch_tanh"
    return write_parts(config) | {"hidden_act": name, "hidden_activation": name}


GEMMA = Family(
    name="gemma",
    architecture="GemmaForCausalLM",
    table=table(NORMS),
    fields=FIELDS,
    read=read_gemma,
    write=write_gemma,
)


def read_gemma2(keys: Keys) -> dict[str, Any]:
    check_whole_heads(keys)
    layers = keys.take("num_hidden_layers", int)
    window = keys.take("sliding_window", int, 4096)
    every_other = ("wf" * layers)[:layers]
    scalar = keys.take("query_pre_attn_scalar", int, 256)
    if scalar < 1:
        raise UserError(f"query_pre_attn_scalar = {scalar}: must be at least 1")
    return read_gemma(keys) | {
        **read_layer_types(keys, window, every_other),
        "attention_scale": 1 / math.sqrt(scalar),
        "attention_softcap": read_cap(keys, "attn_logit_softcapping", 50.0),
        "logit_softcap": read_cap(keys, "final_logit_softcapping", 30.0),
        "post_norm": True,
    }


def read_cap(keys: Keys, name: str, default: float) -> float | None:
    """A null switches a cap off; a missing key leaves it at `default`."""
    return keys.take(name, float, None) if name in keys.values else default


def write_gemma2(config: ModelConfig) -> dict[str, Any]:
    scale = config.attention_scale or 1 / math.sqrt(config.head_width)
    return write_gemma(config) | {
        "query_pre_attn_scalar": round(1 / scale**2),  # a whole number there
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
        "sliding_window": config.window or config.max_seq_len,  # null is not allowed
        "layer_types": write_layer_types(config),
    }


GEMMA2 = Family(
    name="gemma2",
    architecture="Gemma2ForCausalLM",
    table=table(GEMMA2_NORMS),
    fields=FIELDS,
    read=read_gemma2,
    write=write_gemma2,
)
