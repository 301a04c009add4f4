"""A configuration file read with an account of every key."""

from __future__ import annotations

import math
from typing import Any

from folio.config import UserError

REQUIRED = object()

# fmt: off
IRRELEVANT = frozenset({  # to what the model computes from tokens
    # who wrote the file, and for which library
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash",
    "_name_or_path", "architectures", "dtype", "model_type", "tokenizer_class",
    "torch_dtype", "torchscript", "transformers_version", "use_bfloat16",
    # training
    "attention_dropout", "attn_pdrop", "embd_pdrop", "gradient_checkpointing",
    "hidden_dropout_prob", "initializer_range", "resid_pdrop", "router_jitter_noise",
    # how it is computed, not what
    "cache_implementation", "chunk_size_feed_forward", "pretraining_tp",
    "reorder_and_upcast_attn", "use_cache",
    # what is returned besides
    "keys_to_ignore_at_inference", "output_attentions", "output_hidden_states",
    "output_router_logits", "return_dict", "return_dict_in_generate",
    # tokens and generation: in files of their own
    "bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens",
    "min_length", "num_beams", "pad_token_id", "prefix", "repetition_penalty",
    "task_specific_params", "temperature", "top_k", "top_p",
    # heads of other tasks; the length that GPT-2 says twice
    "id2label", "label2id", "n_ctx", "num_labels", "problem_type",
    "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
    "summary_type", "summary_use_proj",
})
# fmt: on

# Keys that a model may carry as long as they are switched off
SWITCHED_OFF = {
    "add_cross_attention": False,
    "attention_bias": False,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "pruned_heads": {},
    "scale_attn_by_inverse_layer_idx": False,
    "tie_encoder_decoder": False,
    "use_bidirectional_attention": False,
    "use_mrope": False,
    "use_sliding_window": False,
}


class Keys:
    """The keys of a config.json, each taken with its type, and none forgotten.

    `finish` refuses what nobody took, unless it can't matter: a key that Folio
    doesn't know may change what the model computes. A null is the same as no key.
    """

    def __init__(self, values: dict[str, Any]):
        self.values, self.taken = values, set()

    def take(self, name: str, kind: type, default: Any = REQUIRED) -> Any:
        """The value of `name`, checked; without one, `default` or an error."""
        self.taken.add(name)
        value = self.values.get(name)
        if value is None:
            if default is REQUIRED:
                raise UserError(f"the configuration lacks {name!r}")
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{name} = {value!r}: expected {kind.__name__}")
        if kind is float and not math.isfinite(value):
            raise UserError(f"{name} = {value!r}: expected a finite number")
        return value

    def choose(self, name: str, choices: dict[str, Any], default: str) -> Any:
        """What stands in `choices` under the value of `name`."""
        value = self.take(name, str, default)
        if value not in choices:
            raise UserError(f"{name} = {value!r}: supported are {', '.join(choices)}")
        return choices[value]

    def finish(self) -> None:
        """Refuse every key that was not taken and may matter."""
        for name, value in self.values.items():
            if name in self.taken or name in IRRELEVANT or value is None:
                continue
            if name in SWITCHED_OFF:
                if value == SWITCHED_OFF[name]:
                    continue
                off = SWITCHED_OFF[name]
                raise UserError(f"{name} = {value!r}: only {off!r} is supported here")
            if name == "auto_map":
                raise UserError(
                    f"auto_map = {value!r}: the model brings code of its own, which "
                    "Folio never runs"
                )
            if name == "quantization_config":
                raise UserError(
                    f"quantization_config = {value!r}: quantized weights can't be "
                    "imported; take the model they were made from"
                )
            raise UserError(
                f"{name} = {value!r}: Folio doesn't know this option, and it may "
                "change what the model computes; if it doesn't, delete it from "
                "config.json"
            )
