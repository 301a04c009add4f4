"""Llama 1 to 3 (Touvron et al. 2023): the family that most others grew from."""

from __future__ import annotations

from typing import Any

from folio.config import UserError
from folio.hub.family import Family, Field
from folio.hub.keys import Keys
from folio.hub.names import SAME, Change, Row, Table
from folio.hub.rope import read_rope, write_rope
from folio.model.config import ModelConfig

LAYER = "model.layers.{layer}"
OURS = "blocks.{layer}"
MATRICES = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.out",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
NORMS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
}
HEAD_NORMS = {
    "self_attn.q_norm": "attention.query_norm",
    "self_attn.k_norm": "attention.key_norm",
}


def norm_rows(norms: dict[str, str], change: Change = SAME) -> tuple[Row, ...]:
    """One row for each norm of a layer."""
    return tuple(
        Row(f"{LAYER}.{theirs}.weight", f"{OURS}.{ours}.gain", change)
        for theirs, ours in norms.items()
    )


def llama_rows(norms: dict[str, str], change: Change = SAME) -> tuple[Row, ...]:
    """The table of a family with Llama's matrices; `change` is what gains undergo."""
    matrices = tuple(
        Row(f"{LAYER}.{theirs}.{part}", f"{OURS}.{ours}.{part}")
        for theirs, ours in MATRICES.items()
        for part in ("weight", "bias")
    )
    return (
        Row("model.embed_tokens.weight", "embedding.weight"),
        *matrices,
        *norm_rows(norms, change),
        Row("model.norm.weight", "norm.gain", change),
        Row("lm_head.weight", "head.weight"),
    )


def llama_table(*more: Row) -> Table:
    """Llama's rows and some more."""
    return Table(
        (*llama_rows(NORMS), *more), "model.", surplus=(".rotary_emb.inv_freq",)
    )


FIELDS = (
    Field("vocab_size", "vocab_size", int),
    Field("max_position_embeddings", "max_seq_len", int),
    Field("hidden_size", "d_model", int),
    Field("intermediate_size", "d_ff", int, value="ff_width"),
    Field("num_hidden_layers", "n_layers", int),
    Field("num_attention_heads", "n_heads", int),
    Field("num_key_value_heads", "n_kv_heads", int, value="kv_heads"),
    Field("rms_norm_eps", "norm_eps", float),
    Field("tie_word_embeddings", "tie_embeddings", bool, False),
)
ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu_pytorch_tanh": "geglu"}


def changed(fields: tuple[Field, ...], **defaults: Any) -> tuple[Field, ...]:
    """The same fields, some of them (by our names) with another default."""
    return tuple(
        field._replace(default=defaults.get(field.ours, field.default))
        for field in fields
    )


def read_parts(
    keys: Keys,
    theta: float = 10_000.0,
    activations: dict[str, str] = ACTIVATIONS,
    head_dim: int | None = None,
) -> dict[str, Any]:
    """What all of Llama's kin have in common, and what a file means that lacks it.

    A missing activation is the first; a missing head_dim is `head_dim`, or what is
    left of the width for each head.
    """
    width, heads = keys.take("hidden_size", int), keys.take("num_attention_heads", int)
    if head_dim is None and heads > 0 and width % heads == 0:
        head_dim = width // heads
    return read_rope(keys, theta) | {
        "head_dim": keys.take("head_dim", int, head_dim),
        "mlp": keys.choose("hidden_act", activations, next(iter(activations))),
        "positions": "rotary",
        "norm": "rmsnorm",
    }


def write_parts(config: ModelConfig) -> dict[str, Any]:
    act = "gelu_pytorch_tanh" if config.mlp == "geglu" else "silu"
    return write_rope(config) | {"head_dim": config.head_width, "hidden_act": act}


def check_whole_heads(keys: Keys) -> None:
    """transformers refuses such a model, though nothing but taste forbids it."""
    width = keys.take("hidden_size", int)
    heads = keys.take("num_attention_heads", int)
    if heads < 1 or width % heads:
        raise UserError(
            f"hidden_size = {width}: not a multiple of num_attention_heads = {heads}"
        )


def read(keys: Keys) -> dict[str, Any]:
    check_whole_heads(keys)
    bias = keys.take("attention_bias", bool, False)
    if bias != keys.take("mlp_bias", bool, False):
        raise UserError(
            f"attention_bias = {bias}, but mlp_bias = {not bias}: supported are both "
            "or none"
        )
    heads = keys.take("num_attention_heads", int)
    return read_parts(keys) | {
        "n_kv_heads": keys.take("num_key_value_heads", int, heads),  # Llama 1 has none
        "bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    biases = {"attention_bias": config.bias, "mlp_bias": config.bias}
    return write_parts(config) | biases


LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    table=llama_table(),
    fields=changed(FIELDS, n_kv_heads=None),
    read=read,
    write=write,
)
