"""GGUF, the file of llama.cpp: what each of its programs is told, and what it assumes.

A GGUF holds metadata (`llama.block_count`: 3), a tokenizer and tensors. The program
that reads it has one architecture per family; what an architecture has built in (its
activation, its norm) no metadata can change. So each is a table of what it is told,
and one of what it assumes; a model fits if the two together describe the same model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from folio.config import UserError
from folio.hub.effect import differences, refusal
from folio.hub.gpt2 import attention_names
from folio.hub.names import SAME, SPLIT, Change, Row, Table, to_theirs
from folio.hub.rope import plain_theta
from folio.model.config import ModelConfig, RopeScaling
from folio.model.decoder import Decoder
from folio.model.options import Experts
from folio.model.positions import rotary_frequencies, rotary_magnitude
from folio.model.store import model_tensors


class Key(NamedTuple):
    """A key of the metadata, behind the architecture's name, and a field of ours."""

    theirs: str
    ours: str  # a field of ModelConfig
    value: str | None = None  # the property that gives it when the field is None
    default: Any = None  # what the program takes for a field that is None


COMMON = (
    Key("vocab_size", "vocab_size"),
    Key("context_length", "max_seq_len"),
    Key("embedding_length", "d_model"),
    Key("block_count", "n_layers"),
    Key("feed_forward_length", "d_ff", "ff_width"),
    Key("attention.head_count", "n_heads"),
)
GROUPED = (Key("attention.head_count_kv", "n_kv_heads", "kv_heads"),)
HEADS = (
    Key("attention.key_length", "head_dim", "head_width"),
    Key("attention.value_length", "head_dim", "head_width"),
)
RMSNORM = (Key("attention.layer_norm_rms_epsilon", "norm_eps"),)
LAYERNORM = (Key("attention.layer_norm_epsilon", "norm_eps"),)
ROTARY_KEYS = (*COMMON, *GROUPED, *HEADS, *RMSNORM)
GEMMA2_KEYS = (
    Key("attn_logit_softcapping", "attention_softcap", default=50.0),
    Key("final_logit_softcapping", "logit_softcap", default=30.0),
    Key("attention.sliding_window", "window", default=4096),
)

LAYER, OURS = "blk.{layer}", "blocks.{layer}"
MATRICES = {
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.out",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
}
NORMS = {"attn_norm": "attention_norm", "ffn_norm": "mlp_norm"}
HEAD_NORMS = {
    "attn_q_norm": "attention.query_norm",
    "attn_k_norm": "attention.key_norm",
}
POST_NORMS = {
    "post_attention_norm": "attention_post_norm",
    "post_ffw_norm": "mlp_post_norm",
}
EXPERTS = {
    "ffn_gate_inp": "moe.router.score.weight",
    "ffn_gate_exps": "moe.experts.gate",
    "ffn_up_exps": "moe.experts.up",
    "ffn_down_exps": "moe.experts.down",
}
ROPE_FACTORS = "rope_freqs.weight"


def rotary_rows(config: ModelConfig, *, neighbors: bool) -> tuple[Row, ...]:
    """The table of the families with Llama's matrices.

    `neighbors`: the program turns pairs that lie side by side, where we turn halves; so
    the rows of queries and keys are put in its order.
    """
    turned = side_by_side(config.head_width) if neighbors else SAME
    rows = [
        Row("token_embd.weight", "embedding.weight"),
        Row("output_norm.weight", "norm.gain"),
        Row("output.weight", "head.weight"),
    ]
    for theirs, ours in MATRICES.items():
        change = turned if theirs in ("attn_q", "attn_k") else SAME
        for part in ("weight", "bias"):
            names = f"{LAYER}.{theirs}.{part}", f"{OURS}.{ours}.{part}"
            rows.append(Row(*names, change))
    for theirs, ours in (NORMS | HEAD_NORMS | POST_NORMS).items():
        rows.append(Row(f"{LAYER}.{theirs}.weight", f"{OURS}.{ours}.gain"))
    for theirs, ours in EXPERTS.items():
        rows.append(Row(f"{LAYER}.{theirs}.weight", f"{OURS}.{ours}"))
    return tuple(rows)


def side_by_side(head_width: int) -> Change:
    """Rows (x0 x1 .. y0 y1 ..) of each head as (x0 y0 x1 y1 ..), and back.

    >>> import torch
    >>> side_by_side(4).to_theirs([torch.tensor([0, 1, 2, 3])])
    [tensor([0, 2, 1, 3])]
    """

    def turn(x: Tensor, *shape: int) -> Tensor:
        return x.unflatten(0, (-1, *shape)).transpose(1, 2).flatten(0, 2)

    half = head_width // 2
    return Change(
        to_ours=lambda theirs: [turn(theirs[0], half, 2)],
        to_theirs=lambda ours: [turn(ours[0], 2, half)],
    )


def gpt2_rows() -> tuple[Row, ...]:
    """GPT-2's: queries, keys and values in one matrix; biases everywhere."""
    rows = [
        Row("token_embd.weight", "embedding.weight"),
        Row("position_embd.weight", "positions.table.weight"),
        Row("output_norm.weight", "norm.gain"),
        Row("output_norm.bias", "norm.bias"),
        Row("output.weight", "head.weight"),
    ]
    for part in ("weight", "bias"):
        rows.append(Row(f"{LAYER}.attn_qkv.{part}", attention_names(part), SPLIT))
        for name in ("attn_output", "ffn_up", "ffn_down"):
            ours = f"{OURS}.{MATRICES[name]}.{part}"
            rows.append(Row(f"{LAYER}.{name}.{part}", ours))
    for theirs, ours in NORMS.items():
        rows.append(Row(f"{LAYER}.{theirs}.weight", f"{OURS}.{ours}.gain"))
        rows.append(Row(f"{LAYER}.{theirs}.bias", f"{OURS}.{ours}.bias"))
    return tuple(rows)


@dataclass(frozen=True)
class Architecture:
    """One architecture of llama.cpp.

    `keys` is what it is told; `assumed` are the options that it has built in, as far as
    they aren't the usual ones of `ModelConfig`.
    """

    name: str
    keys: tuple[Key, ...]
    assumed: Mapping[str, Any] = field(default_factory=dict)
    experts: bool = False  # told by metadata, where a model has any
    scalings: tuple[str, ...] = ()  # kinds of rope_scaling that it can be told
    neighbors: bool = False  # turns neighbors, not halves
    scale: Callable[[ModelConfig], float | None] = lambda config: None  # of the scores

    def implied(self, config: ModelConfig) -> ModelConfig:
        """The model that the program makes of what it is told about `config`."""
        told = {k.ours: getattr(config, k.ours) for k in self.keys}
        told |= {
            k.ours: k.default
            for k in self.keys
            if told[k.ours] is None and k.default is not None
        }
        for name in ("tie_embeddings", "bias"):  # the tensors that are there tell
            told[name] = getattr(config, name)
        if config.experts and self.experts:
            count, active = config.experts.count, config.experts.active
            told["experts"] = Experts(count, active, width=config.expert_width)
        if self.scalings:
            told["rope_theta"], scaling = plain_theta(config)
            if scaling and scaling.kind in self.scalings:
                told["rope_scaling"] = scaling
        told["attention_scale"] = self.scale(config)
        return ModelConfig(**(told | self.assumed))

    def metadata(self, config: ModelConfig) -> dict[str, Any]:
        """Key -> number or text, as the program reads it."""
        values = {
            k.theirs: getattr(config, k.value or k.ours) or k.default for k in self.keys
        }
        if config.experts:
            values["expert_count"] = config.experts.count
            values["expert_used_count"] = config.experts.active
            values["expert_feed_forward_length"] = config.expert_width
            values["feed_forward_length"] = config.expert_width
        if self.scalings:
            values["rope.dimension_count"] = config.rotary_width
            values |= rope_metadata(config)
        return {f"{self.name}.{name}": value for name, value in values.items()}

    def table(self, config: ModelConfig) -> Table:
        """Their names of tensors and ours."""
        if config.positions == "learned":
            rows = gpt2_rows()
        else:
            rows = rotary_rows(config, neighbors=self.neighbors)
        return Table(rows, prefix="", surplus=(ROPE_FACTORS,))

    def tensors(self, model: Decoder) -> dict[str, Tensor]:
        """All weights under their names, and what else has to be a tensor."""
        config = model.config
        weights = to_theirs(self.table(config), config, model_tensors(model))
        scaling = config.rope_scaling
        if scaling is not None and scaling.kind == "llama3":
            plain = rotary_frequencies(replace(config, rope_scaling=None))
            weights[ROPE_FACTORS] = plain / rotary_frequencies(config)
        return weights


def rope_metadata(config: ModelConfig) -> dict[str, Any]:
    """How positions turn; Llama 3's rule is a tensor of factors instead."""
    theta, scaling = plain_theta(config)
    values: dict[str, Any] = {"rope.freq_base": theta}
    if scaling is None or scaling.kind == "llama3":
        return values
    values["rope.scaling.type"] = scaling.kind
    values["rope.scaling.factor"] = scaling.factor
    if scaling.kind == "yarn":
        values |= _yarn_metadata(config, scaling)
    return values


def _yarn_metadata(config: ModelConfig, scaling: RopeScaling) -> dict[str, Any]:
    usual = 0.1 * math.log(scaling.factor) + 1  # which the program multiplies by
    return {
        "rope.scaling.original_context_length": scaling.original_len,
        "rope.scaling.yarn_beta_slow": scaling.low,
        "rope.scaling.yarn_beta_fast": scaling.high_turns,
        "rope.scaling.attn_factor": rotary_magnitude(config) / usual,
    }


def gemma2_scale(config: ModelConfig) -> float | None:
    """The usual one, but for the model of 27 billion, which is known by its layers."""
    if config.n_layers != 46:
        return None
    return 1 / math.sqrt(config.d_model // config.n_heads)


ROTARY = ("linear", "yarn")
GEMMA_PARTS = {"mlp": "geglu", "scale_embeddings": True, "tie_embeddings": True}
# In the order in which an export tries them. Mistral and Mixtral are Llama here.
ARCHITECTURES = (
    Architecture(
        "gpt2",
        (*COMMON, *LAYERNORM),
        {"positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "bias": True},
    ),
    Architecture(
        "llama",
        ROTARY_KEYS,
        experts=True,
        scalings=(*ROTARY, "llama3"),
        neighbors=True,
    ),
    Architecture(
        "qwen2",
        (*COMMON, *GROUPED, *RMSNORM),
        {"qkv_bias": True, "bias": False},
        scalings=ROTARY,
    ),
    Architecture(
        "qwen3", ROTARY_KEYS, {"qk_norm": True, "bias": False}, scalings=ROTARY
    ),
    Architecture(
        "qwen3moe",
        ROTARY_KEYS,
        {"qk_norm": True, "bias": False},
        experts=True,
        scalings=ROTARY,
    ),
    Architecture("gemma", ROTARY_KEYS, GEMMA_PARTS | {"bias": False}, scalings=ROTARY),
    Architecture(
        "gemma2",
        (*ROTARY_KEYS, *GEMMA2_KEYS),
        GEMMA_PARTS | {"bias": False, "post_norm": True, "attention_pattern": "wf"},
        scalings=ROTARY,
        scale=gemma2_scale,
    ),
)


def architecture_of(config: ModelConfig) -> Architecture:
    """The first architecture that a model fits; UserError names what stands in the way.

    A window as long as the context hides nothing, so it needs nobody's support.
    """
    lacks: dict[str, set[str]] = {}
    for candidate in ARCHITECTURES:
        try:
            implied = candidate.implied(config)
        except UserError:  # what it assumes contradicts what the model has
            continue
        found = differences(without_idle_window(config), without_idle_window(implied))
        if not found:
            return candidate
        lacks[candidate.name] = found
    raise UserError(refusal(config, lacks, "GGUF architecture"))


def without_idle_window(config: ModelConfig) -> ModelConfig:
    """The same model, its window left out if no text is long enough to notice it."""
    if config.window is None or config.window < config.max_seq_len:
        return config
    return replace(config, window=None, attention_pattern=None, sinks=0)
