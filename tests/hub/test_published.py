"""Configurations as published give the parameter counts that are known."""

import pytest

from folio.config import UserError
from folio.hub.convert import config_from_hf, config_to_hf
from folio.hub.names import their_shapes
from folio.model.count import count_parameters

LLAMA_PARTS = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "use_cache": True,
    "tie_word_embeddings": False,
}
GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}
LLAMA2_7B = LLAMA_PARTS | {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "torch_dtype": "float16",
    "vocab_size": 32000,
}
LLAMA31_8B = LLAMA_PARTS | {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
LLAMA32_1B = LLAMA31_8B | {
    "head_dim": 64,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "rope_scaling": LLAMA31_8B["rope_scaling"] | {"factor": 32.0},
    "tie_word_embeddings": True,
}
MISTRAL_7B = LLAMA_PARTS | {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
QWEN25_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 896,
    "initializer_range": 0.02,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_06B = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MIXTRAL_8X7B = MISTRAL_7B | {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
}
QWEN3_30B_A3B = QWEN3_06B | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
    "tie_word_embeddings": False,
}
GEMMA_2B = {
    "architectures": ["GemmaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 256,
    "hidden_act": "gelu",
    "hidden_activation": None,
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "model_type": "gemma",
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 256000,
}
GEMMA2_2B = GEMMA_2B | {
    "architectures": ["Gemma2ForCausalLM"],
    "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "model_type": "gemma2",
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}

# From the model cards and the sizes of the published files
COUNTS = {
    "GPT-2": (GPT2, 124_439_808),
    "Llama 2 7B": (LLAMA2_7B, 6_738_415_616),
    "Llama 3.1 8B": (LLAMA31_8B, 8_030_261_248),
    "Llama 3.2 1B": (LLAMA32_1B, 1_235_814_400),
    "Mistral 7B": (MISTRAL_7B, 7_241_732_096),
    "Qwen2.5 0.5B": (QWEN25_05B, 494_032_768),
    "Qwen3 0.6B": (QWEN3_06B, 596_049_920),
    "Mixtral 8x7B": (MIXTRAL_8X7B, 46_702_792_704),
    "Qwen3 30B A3B": (QWEN3_30B_A3B, 30_532_122_624),
    "Gemma 2B": (GEMMA_2B, 2_506_172_416),
    "Gemma 2 2B": (GEMMA2_2B, 2_614_341_888),
}
each = pytest.mark.parametrize("name", COUNTS)


@each
def test_parameters(name):
    values, count = COUNTS[name]
    config, family = config_from_hf(values)
    assert family.name == values["model_type"]
    assert count_parameters(config)["total"] == count


@each
def test_tensors_of_the_tables_hold_as_many(name):
    """Every weight has a row, and no row has two: shapes alone, nothing is made."""
    values, count = COUNTS[name]
    config, family = config_from_hf(values)
    shapes = their_shapes(family.table, config)
    assert sum(shape.numel() for shape in shapes.values()) == count


@each
def test_the_family_of_an_export(name):
    """Out of our options alone the same family is found again."""
    config, family = config_from_hf(COUNTS[name][0])
    values = config_to_hf(config)
    assert values["model_type"] == family.name
    assert config_from_hf(values)[0] == config


def test_active_parameters():
    mixtral, _ = config_from_hf(MIXTRAL_8X7B)
    assert count_parameters(mixtral, active_only=True)["total"] == 12_879_925_248
    qwen, _ = config_from_hf(QWEN3_30B_A3B)
    active = count_parameters(qwen, active_only=True)["total"]
    assert active == pytest.approx(3.3e9, rel=0.02)


def test_options_of_published_models():
    llama, _ = config_from_hf(LLAMA31_8B)
    assert (llama.rope_scaling.kind, llama.rope_scaling.original_len) == (
        "llama3",
        8192,
    )
    gemma, _ = config_from_hf(GEMMA2_2B)
    assert gemma.layer_windows[:3] == (4096, None, 4096)
    assert (gemma.attention_scale, gemma.attention_softcap) == (1 / 16, 50.0)
    assert gemma.mlp == "geglu"
    mistral, _ = config_from_hf(MISTRAL_7B)
    assert set(mistral.layer_windows) == {4096}
    qwen, _ = config_from_hf(QWEN25_05B)
    assert qwen.qkv_bias
    assert not qwen.bias
    assert qwen.window is None
    experts = config_from_hf(QWEN3_30B_A3B)[0].experts
    assert (experts.count, experts.active, experts.width) == (128, 8, 768)


def test_yarn_of_a_model_card():
    """Qwen 2.5's cards tell to add this for long texts, in the old spelling."""
    scaling = {
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
        "type": "yarn",
    }
    config, _ = config_from_hf(QWEN25_05B | {"rope_scaling": scaling})
    assert config.rope_scaling.kind == "yarn"
    assert config.rope_scaling.original_len == 32768


def test_a_model_beyond_all_measure_is_refused():
    huge = GPT2 | {"n_embd": 12 * 2**40}
    with pytest.raises(UserError, match="parameters: is the configuration damaged"):
        config_from_hf(huge)
    with pytest.raises(UserError, match="layers"):
        config_from_hf(GPT2 | {"n_layer": 10**12})
