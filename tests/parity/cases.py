"""Tiny models of every family, each with some option of its configuration moved."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers
from transformers import PreTrainedConfig

VOCAB = 41
LENGTH = 80  # of the longest text that a test makes

SIZES = {
    "vocab_size": VOCAB,
    "max_position_embeddings": LENGTH,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GPT2_SIZES = {
    "vocab_size": VOCAB,
    "n_positions": LENGTH,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 20,
}


def rope(theta: float) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def scaled(base: dict, **changes) -> dict:
    return {"rope_parameters": base | changes}


def kinds(letters: str) -> dict:
    names = {"w": "sliding_attention", "f": "full_attention"}
    return {
        "num_hidden_layers": len(letters),
        "layer_types": [names[letter] for letter in letters],
    }


GPT2 = {
    "plain": {},
    "one head": {"n_head": 1, "n_layer": 1},
    "narrow heads": {"n_embd": 32, "n_head": 16},
    "wide inner": {"n_inner": 40, "n_layer": 3},
    "large eps": {"layer_norm_epsilon": 1e-2},
    "exact gelu": {"activation_function": "gelu"},
    "relu2": {"activation_function": "relu2"},
    "unscaled": {"scale_attn_weights": False},
    "untied": {"tie_word_embeddings": False},
}
LLAMA = {
    "plain": {},
    "one head": {"num_attention_heads": 1, "num_key_value_heads": 1},
    "every head its own": {"num_key_value_heads": 4},
    "multi-query": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "three layers, large eps": {"num_hidden_layers": 3, "rms_norm_eps": 1e-2},
    "wide heads": {"head_dim": 10},
    "narrow heads": {"head_dim": 2, "num_key_value_heads": 4},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "geglu": {"hidden_act": "gelu_pytorch_tanh"},
    "small theta": rope(100.0),
    "large theta": rope(500_000.0),
    "linear": scaled(LINEAR),
    "llama3": scaled(LLAMA3) | {"head_dim": 16},
    "llama3, other turns": scaled(LLAMA3, low_freq_factor=0.5, high_freq_factor=2.0),
    "yarn": scaled(YARN) | {"head_dim": 16},
    "yarn, magnitude": scaled(YARN, attention_factor=0.7),
    "yarn, two magnitudes": scaled(YARN, mscale=2.0, mscale_all_dim=0.5),
    "yarn, other turns": scaled(YARN, beta_fast=8.0, beta_slow=2.0) | {"head_dim": 16},
}
MISTRAL = {
    "no window": {"sliding_window": None},
    "window 5": {"sliding_window": 5},
    "window 1": {"sliding_window": 1},
    "window, multi-query, tied": {
        "sliding_window": 9,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    "heads that don't divide": {
        "hidden_size": 20,
        "num_attention_heads": 6,
        "head_dim": 8,
        "sliding_window": 16,
    },
    "window, yarn": scaled(YARN) | {"sliding_window": 7, "head_dim": 16},
}
WINDOW = {"use_sliding_window": True, "sliding_window": 6}
QWEN2 = {
    "plain": {},
    "tied, large theta": rope(1_000_000.0) | {"tie_word_embeddings": True},
    "unused window": {"sliding_window": 5, "use_sliding_window": False},
    "windows": WINDOW | {"max_window_layers": 0},
    "windows above": WINDOW | {"max_window_layers": 1},
    "windows in between": WINDOW | kinds("wfwwf"),
    "yarn": scaled(YARN) | {"head_dim": 16},
}
QWEN3 = {
    "plain": {"head_dim": 4},
    "wide heads": {"head_dim": 12, "num_key_value_heads": 4},
    "multi-query, tied": {
        "head_dim": 8,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    "windows above": WINDOW | {"max_window_layers": 1, "head_dim": 8},
    "windows in between": WINDOW | kinds("wffw") | {"head_dim": 4},
    "yarn, large eps": scaled(YARN) | {"head_dim": 16, "rms_norm_eps": 1e-2},
}
MIXTRAL = {
    "plain": {"num_local_experts": 4},
    "one of four": {"num_local_experts": 4, "num_experts_per_tok": 1},
    "three of eight": {"num_local_experts": 8, "num_experts_per_tok": 3},
    "all of two": {"num_local_experts": 2, "num_experts_per_tok": 2},
    "window, tied": {
        "num_local_experts": 3,
        "sliding_window": 5,
        "tie_word_embeddings": True,
    },
    "wide heads": {"num_local_experts": 3, "head_dim": 12},
}
MOE = {
    "head_dim": 8,
    "moe_intermediate_size": 12,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
}
QWEN3_MOE = {
    "plain": MOE,
    "not renormalized": MOE | {"norm_topk_prob": False},
    "three of eight": MOE
    | {"num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": False},
    "one of four": MOE | {"num_experts_per_tok": 1, "norm_topk_prob": False},
    "first layer dense": MOE | {"mlp_only_layers": [0]},
    "every other layer": MOE | {"decoder_sparse_step": 2, "num_hidden_layers": 4},
    "window": MOE | {"use_sliding_window": True, "sliding_window": 6},
    "tied, linear": MOE | scaled(LINEAR) | {"tie_word_embeddings": True},
}
GEMMA = {
    "plain": {"head_dim": 4},
    "multi-query": {"head_dim": 8, "num_key_value_heads": 1},
    "untied, wide": {"head_dim": 16, "tie_word_embeddings": False},
    "linear, large eps": scaled(LINEAR) | {"head_dim": 8, "rms_norm_eps": 1e-2},
}
GEMMA2_PARTS = {
    "head_dim": 8,
    "query_pre_attn_scalar": 16,
    "sliding_window": 6,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}
GEMMA2 = {
    "plain": GEMMA2_PARTS,
    "no caps": GEMMA2_PARTS
    | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    "capped scores": GEMMA2_PARTS | {"final_logit_softcapping": None},
    "capped logits": GEMMA2_PARTS | {"attn_logit_softcapping": None},
    "usual scale": GEMMA2_PARTS | {"query_pre_attn_scalar": 8},
    "all full": GEMMA2_PARTS | kinds("ff"),
    "all windows": GEMMA2_PARTS | kinds("ww"),
    "own pattern": GEMMA2_PARTS | kinds("fww") | {"sliding_window": 3},
}

CONFIGS = {
    transformers.GPT2Config: GPT2,
    transformers.LlamaConfig: LLAMA,
    transformers.MistralConfig: MISTRAL,
    transformers.Qwen2Config: QWEN2,
    transformers.Qwen3Config: QWEN3,
    transformers.MixtralConfig: MIXTRAL,
    transformers.Qwen3MoeConfig: QWEN3_MOE,
    transformers.GemmaConfig: GEMMA,
    transformers.Gemma2Config: GEMMA2,
}
NAMES = [
    f"{kind.model_type}: {name}" for kind, cases in CONFIGS.items() for name in cases
]


def their_config(name: str) -> PreTrainedConfig:
    """The configuration called "family: case"."""
    family, _, case = name.partition(": ")
    kind = next(kind for kind in CONFIGS if kind.model_type == family)
    sizes = GPT2_SIZES if family == "gpt2" else SIZES
    return kind(**(sizes | NO_TOKENS | CONFIGS[kind][case]))
