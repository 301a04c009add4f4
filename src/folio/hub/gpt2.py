"""GPT-2 (Radford et al. 2019): fused and transposed matrices, learned positions."""

from __future__ import annotations

import math
from typing import Any

from folio.hub.family import Family, Field
from folio.hub.keys import Keys
from folio.hub.names import SPLIT, TRANSPOSE, TRANSPOSE_SPLIT, Row, Table
from folio.model.config import ModelConfig

QUERY_KEY_VALUE = ("query", "key", "value")


def attention_names(part: str) -> tuple[str, ...]:
    """Our three names for the weight or bias of what they keep in one piece."""
    return tuple(f"blocks.{{layer}}.attention.{n}.{part}" for n in QUERY_KEY_VALUE)


LAYER = "transformer.h.{layer}"
OURS = "blocks.{layer}"
ROWS = (
    Row("transformer.wte.weight", "embedding.weight"),
    Row("transformer.wpe.weight", "positions.table.weight"),
    Row(f"{LAYER}.ln_1.weight", f"{OURS}.attention_norm.gain"),
    Row(f"{LAYER}.ln_1.bias", f"{OURS}.attention_norm.bias"),
    Row(f"{LAYER}.attn.c_attn.weight", attention_names("weight"), TRANSPOSE_SPLIT),
    Row(f"{LAYER}.attn.c_attn.bias", attention_names("bias"), SPLIT),
    Row(f"{LAYER}.attn.c_proj.weight", f"{OURS}.attention.out.weight", TRANSPOSE),
    Row(f"{LAYER}.attn.c_proj.bias", f"{OURS}.attention.out.bias"),
    Row(f"{LAYER}.ln_2.weight", f"{OURS}.mlp_norm.gain"),
    Row(f"{LAYER}.ln_2.bias", f"{OURS}.mlp_norm.bias"),
    Row(f"{LAYER}.mlp.c_fc.weight", f"{OURS}.mlp.up.weight", TRANSPOSE),
    Row(f"{LAYER}.mlp.c_fc.bias", f"{OURS}.mlp.up.bias"),
    Row(f"{LAYER}.mlp.c_proj.weight", f"{OURS}.mlp.down.weight", TRANSPOSE),
    Row(f"{LAYER}.mlp.c_proj.bias", f"{OURS}.mlp.down.bias"),
    Row("transformer.ln_f.weight", "norm.gain"),
    Row("transformer.ln_f.bias", "norm.bias"),
    Row("lm_head.weight", "head.weight"),
)

ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu2": "relu2",
}

FIELDS = (
    Field("vocab_size", "vocab_size", int),
    Field("n_positions", "max_seq_len", int),
    Field("n_embd", "d_model", int),
    Field("n_layer", "n_layers", int),
    Field("n_head", "n_heads", int),
    Field("layer_norm_epsilon", "norm_eps", float, 1e-5),
    Field("tie_word_embeddings", "tie_embeddings", bool, True),
)


def read(keys: Keys) -> dict[str, Any]:
    width = 4 * keys.take("n_embd", int)
    scaled = keys.take("scale_attn_weights", bool, True)
    return {
        "d_ff": keys.take("n_inner", int, width),
        "mlp": keys.choose("activation_function", ACTIVATIONS, "gelu_new"),
        "attention_scale": None if scaled else 1.0,
        "positions": "learned",
        "norm": "layernorm",
        "bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    scale = config.attention_scale or 1 / math.sqrt(config.head_width)
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
    return rates | {
        "n_inner": config.ff_width,
        "activation_function": names.get(config.mlp, "gelu_new"),
        "scale_attn_weights": scale != 1.0,
    }


GPT2 = Family(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    table=Table(ROWS, "transformer.", surplus=(".attn.bias", ".attn.masked_bias")),
    fields=FIELDS,
    read=read,
    write=write,
)
