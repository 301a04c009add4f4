"""Configurations: every key accounted for, every refusal one line with its option."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.hub.convert import (
    FAMILIES,
    config_from_hf,
    config_to_hf,
    tensors_from_hf,
    tensors_to_hf,
)
from folio.hub.effect import differences
from folio.model.config import (
    Experts,
    Latent,
    ModelConfig,
    RopeScaling,
    gpt2_like,
    llama_like,
)
from folio.model.decoder import Decoder
from folio.model.positions import rotary_frequencies

LLAMA = {
    "model_type": "llama",
    "vocab_size": 11,
    "max_position_embeddings": 64,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
}
QWEN2 = LLAMA | {"model_type": "qwen2"}
QWEN3_MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
}
MIXTRAL = LLAMA | {
    "model_type": "mixtral",
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
GEMMA = LLAMA | {"model_type": "gemma"}
GEMMA2 = LLAMA | {"model_type": "gemma2"}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_positions": 16,
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
}

REFUSED = [
    ({}, "model_type = None: Folio imports gemma"),
    ({"model_type": "mamba"}, "model_type = 'mamba'"),
    ({"model_type": ["llama"]}, "model_type"),
    (LLAMA | {"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
    (LLAMA | {"auto_map": {"AutoModel": "x.Y"}}, "auto_map.*never runs"),
    (LLAMA | {"quantization_config": {"bits": 4}}, "quantization_config"),
    (LLAMA | {"shiny_new_option": 3}, "shiny_new_option = 3: Folio doesn't know"),
    (LLAMA | {"sliding_window": 7}, "sliding_window = 7"),
    (LLAMA | {"attention_bias": True}, "attention_bias = True, but mlp_bias = False"),
    (LLAMA | {"mlp_bias": True}, "attention_bias = False, but mlp_bias = True"),
    (LLAMA | {"hidden_act": "relu"}, "hidden_act = 'relu': supported are silu"),
    (LLAMA | {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
    (LLAMA | {"hidden_size": 9}, "hidden_size = 9: not a multiple"),
    (LLAMA | {"max_position_embeddings": 2**31 + 1}, "context of 2147483649: is the"),
    (LLAMA | {"hidden_size": "8"}, "hidden_size = '8': expected int"),
    (LLAMA | {"hidden_size": True}, "hidden_size = True: expected int"),
    (LLAMA | {"hidden_size": None}, "lacks 'hidden_size'"),
    (LLAMA | {"hidden_size": -8}, "d_model = -8"),
    (LLAMA | {"num_attention_heads": 0}, "num_attention_heads = 0"),
    (LLAMA | {"num_hidden_layers": -1}, "-1 layers"),
    (LLAMA | {"num_key_value_heads": 3}, "n_kv_heads = 3"),
    (LLAMA | {"rms_norm_eps": float("nan")}, "rms_norm_eps = nan"),
    (LLAMA | {"rope_theta": float("inf")}, "rope_theta = inf"),
    (LLAMA | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    (LLAMA | {"rope_scaling": {"type": "longrope", "factor": 2.0}}, "'longrope'"),
    (LLAMA | {"rope_scaling": {"type": "linear"}}, "lacks 'factor'"),
    (LLAMA | {"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor = 0.5"),
    (LLAMA | {"rope_scaling": {"type": "linear", "factor": 2, "x": 1}}, "x = 1"),
    (LLAMA | {"rope_scaling": {"type": "llama3", "factor": 2}}, "low_freq_factor"),
    (
        LLAMA | {"rope_scaling": {"type": "yarn", "factor": 2, "truncate": False}},
        "truncate",
    ),
    (
        LLAMA | {"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}},
        "rope_type = 'yarn', but type = 'linear'",
    ),
    (
        LLAMA
        | {
            "rope_scaling": {"type": "linear", "factor": 2},
            "rope_parameters": {"rope_type": "linear", "factor": 3},
        },
        "contradict",
    ),
    (
        LLAMA | {"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}},
        "rope_theta = 5.0",
    ),
    (
        LLAMA | {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}},
        "full_attention",
    ),
    (
        LLAMA | {"rope_parameters": {"partial_rotary_factor": 0.5}},
        "partial_rotary_factor = 0.5",
    ),
    (QWEN2 | {"layer_types": ["full_attention"]}, "layer_types names 1 layers"),
    (QWEN2 | {"layer_types": ["chunked_attention"] * 4}, "'chunked_attention'"),
    (QWEN2 | {"layer_types": [["full_attention"]] * 4}, "supported are"),
    (
        QWEN2 | {"layer_types": ["sliding_attention"] * 4, "sliding_window": 5},
        "but no sliding_window",
    ),
    (QWEN2 | {"attention_bias": True}, "attention_bias = True"),
    (
        QWEN3_MOE
        | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
        "max_window_layers = 2",
    ),
    (QWEN3_MOE | {"mlp_only_layers": [4]}, "mlp_only_layers has 4"),
    (QWEN3_MOE | {"decoder_sparse_step": 0}, "decoder_sparse_step = 0"),
    (QWEN3_MOE | {"num_experts_per_tok": 5}, "active = 5 experts of count = 4"),
    (QWEN3_MOE | {"num_local_experts": 5}, "num_local_experts = 5"),
    (QWEN3_MOE | {"shared_expert_intermediate_size": 8}, "shared_expert"),
    (MIXTRAL | {"num_local_experts": 0}, "count = 0"),
    (GEMMA | {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    (GEMMA | {"hidden_activation": "gelu"}, "hidden_activation = 'gelu'"),
    (GEMMA2 | {"attn_logit_softcapping": 0.0}, "attention_softcap = 0"),
    (GEMMA2 | {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0"),
    (GPT2 | {"activation_function": "relu"}, "activation_function = 'relu'"),
    (GPT2 | {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx = True"),
    (GPT2 | {"add_cross_attention": True}, "add_cross_attention = True"),
    (GPT2 | {"n_head": 3}, "d_model = 8"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=lambda v: str(v)[-60:])
def test_refused(values, message):
    with pytest.raises(UserError, match=message) as caught:
        config_from_hf(values)
    assert "\n" not in str(caught.value)


WINDOWED = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}
EVERY_KEY = [LLAMA, QWEN2 | WINDOWED, QWEN3_MOE | WINDOWED, MIXTRAL, GEMMA2, GPT2]
UNFELT = {
    *("architectures", "dtype", "use_cache"),  # not about the model
    *("resid_pdrop", "embd_pdrop", "attn_pdrop"),  # training's business
    "max_window_layers",  # where layer_types says it all
}


@pytest.mark.parametrize("values", EVERY_KEY, ids=lambda v: v["model_type"])
def test_no_key_is_read_in_vain(values):
    """Another value under any key that we write makes another model or is refused."""
    config, family = config_from_hf(values)
    written = config_to_hf(config, family)
    for name in written.keys() - UNFELT:
        for other in (3.5, 3, True, False, "other", [1], {"a": 1}):
            if other == written[name]:
                continue
            try:
                found, _ = config_from_hf(written | {name: other})
            except UserError:
                continue
            assert found != config, (name, other)


def test_keys_that_do_not_matter():
    plain = config_from_hf(LLAMA)[0]
    noise = {
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "_name_or_path": "somewhere",
        "attention_dropout": 0.1,
        "pretraining_tp": 1,
        "quantization_config": None,
    }
    assert config_from_hf(LLAMA | noise)[0] == plain


SPELLINGS = [
    ({"type": "linear", "factor": 2.0}, RopeScaling("linear", 2.0)),
    (
        {"rope_type": "yarn", "factor": 2.0},
        RopeScaling("yarn", 2.0, original_len=64),
    ),
    (
        {"rope_type": "yarn", "factor": 2.0, "beta_fast": 8, "beta_slow": 2},
        RopeScaling("yarn", 2.0, original_len=64, low=2.0, high=8.0),
    ),
    ({"rope_type": "default"}, None),
]


@pytest.mark.parametrize(("scaling", "wanted"), SPELLINGS)
def test_both_spellings_of_rotary_positions(scaling, wanted):
    old = {"rope_theta": 500.0, "rope_scaling": scaling}
    new = {"rope_parameters": scaling | {"rope_theta": 500.0}}
    for spelling in (old, new, old | new):
        config, _ = config_from_hf(LLAMA | spelling)
        assert (config.rope_theta, config.rope_scaling) == (500.0, wanted)


def test_both_spellings_are_written():
    """transformers 5 reads rope_parameters; 4, and what grew around it, the rest."""
    scaling = RopeScaling("llama3", 8.0, 32, low=1.0, high=4.0)
    config = llama_like(**SMALL, rope_theta=500.0, rope_scaling=scaling)
    values = config_to_hf(config)
    wanted = {
        "rope_type": "llama3",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    assert values["rope_theta"] == 500.0
    assert values["rope_scaling"] == wanted
    assert values["rope_parameters"] == wanted | {"rope_theta": 500.0}


def test_windows_are_written_for_old_readers_too():
    """Before layer_types there was the number of the first layer with a window."""
    options = {"qkv_bias": True, "window": 4, "attention_pattern": "fw"}
    assert config_to_hf(llama_like(**SMALL, **options))["max_window_layers"] == 1


@pytest.mark.parametrize("head_dim", [4, 8])
def test_ntk_is_a_larger_theta(head_dim):
    scaling = RopeScaling("ntk", 4.0)
    config = llama_like(**SMALL, head_dim=head_dim, rope_scaling=scaling)
    again, _ = config_from_hf(config_to_hf(config))
    assert again.rope_scaling is None
    found, wanted = rotary_frequencies(again), rotary_frequencies(config)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


def test_missing_keys_mean_what_they_mean_to_transformers():
    assert config_from_hf(LLAMA)[0].rope_theta == 10_000.0
    assert config_from_hf(MIXTRAL)[0].rope_theta == 1_000_000.0
    assert config_from_hf(LLAMA | {"num_key_value_heads": None})[0].n_kv_heads == 2
    mistral = LLAMA | {"model_type": "mistral"}
    assert config_from_hf(mistral)[0].window == 4096
    assert config_from_hf(mistral | {"sliding_window": None})[0].window is None
    assert config_from_hf(GEMMA)[0].head_dim == 256
    assert config_from_hf(GEMMA)[0].tie_embeddings
    assert config_from_hf(GEMMA2)[0].attention_softcap == 50.0
    assert config_from_hf(LLAMA | {"model_type": "qwen3"})[0].head_dim == 128
    assert not config_from_hf(QWEN3_MOE)[0].experts.renormalize


SMALL = {"vocab_size": 11, "d_model": 16, "n_layers": 2, "n_heads": 2}
CHOSEN = [
    (gpt2_like(**SMALL), "gpt2"),
    (llama_like(**SMALL), "llama"),
    (ModelConfig(**SMALL), "llama"),
    (llama_like(**SMALL, bias=True), "llama"),
    (llama_like(**SMALL, window=4), "mistral"),
    (llama_like(**(SMALL | {"d_model": 18, "n_heads": 4}), head_dim=6), "mistral"),
    (llama_like(**SMALL, qkv_bias=True), "qwen2"),
    (
        llama_like(**SMALL, qkv_bias=True, window=4, attention_pattern="wf"),
        "qwen2",
    ),
    (llama_like(**SMALL, qk_norm=True, head_dim=4), "qwen3"),
    (llama_like(**SMALL, experts=Experts()), "mixtral"),
    (llama_like(**SMALL, experts=Experts(z_loss=0.1), dropout=0.1), "mixtral"),
    (llama_like(**SMALL, experts=Experts(), qk_norm=True), "qwen3_moe"),
    (
        llama_like(
            **SMALL,
            experts=Experts(renormalize=False),
            qk_norm=True,
            mlp_pattern="de",
        ),
        "qwen3_moe",
    ),
    (llama_like(**SMALL, mlp="geglu", scale_embeddings=True), "gemma"),
    (
        llama_like(
            **SMALL,
            mlp="geglu",
            scale_embeddings=True,
            post_norm=True,
            attention_scale=0.25,
            logit_softcap=5.0,
        ),
        "gemma2",
    ),
    (llama_like(**SMALL, rope_scaling=RopeScaling("ntk", 4.0)), "llama"),
    (llama_like(**SMALL, rope_scaling=RopeScaling("llama3", 8.0, 32)), "llama"),
    (llama_like(**SMALL, experts=Experts(), mlp_pattern="ee"), "mixtral"),
]


@pytest.mark.parametrize(("config", "name"), CHOSEN, ids=lambda v: str(v)[-40:])
def test_the_family_that_can(config, name):
    values = config_to_hf(config)
    assert values["model_type"] == name
    assert values["architectures"] == [FAMILIES[name].architecture]
    assert not differences(config, config_from_hf(values)[0])


NONE_CAN = [
    (llama_like(**SMALL, latent=Latent()), r"latent = Latent\("),
    (llama_like(**SMALL, positions="sinusoidal"), "positions = 'sinusoidal'"),
    (llama_like(**SMALL, positions="none"), "positions = 'none'"),
    (llama_like(**SMALL, rope_fraction=0.5), "rope_fraction = 0.5"),
    (llama_like(**SMALL, window=4, sinks=1), "sinks = 1"),
    (llama_like(**SMALL, experts=Experts(shared=1)), "experts.shared = 1"),
    (llama_like(**SMALL, experts=Experts(router="sigmoid")), "experts.router"),
    (llama_like(**SMALL, experts=Experts(), mlp_pattern="b"), "mlp_pattern = 'b'"),
]


@pytest.mark.parametrize(("config", "option"), NONE_CAN, ids=lambda v: str(v)[-40:])
def test_an_option_that_no_family_has(config, option):
    with pytest.raises(UserError, match=option + ".*no Hugging Face family has it"):
        config_to_hf(config)


APART = [
    (llama_like(**SMALL, norm="layernorm"), "norm = 'layernorm'"),
    (llama_like(**SMALL, mlp="relu2"), "mlp = 'relu2'"),
    (gpt2_like(**SMALL, bias=False), "bias = False"),
    (gpt2_like(**SMALL, n_kv_heads=1), "n_kv_heads = 1"),
    (llama_like(**SMALL, window=4, attention_pattern="wf"), "attention_pattern"),
    (llama_like(**SMALL, logit_softcap=5.0), "logit_softcap = 5.0"),
    (llama_like(**SMALL, scale_embeddings=True), "scale_embeddings = True"),
]


@pytest.mark.parametrize(("config", "option"), APART, ids=lambda v: str(v)[-40:])
def test_options_that_no_family_has_together(config, option):
    with pytest.raises(UserError, match=option + ".*the nearest Hugging Face family"):
        config_to_hf(config)


def test_a_family_asked_for_says_what_it_lacks():
    config = llama_like(**SMALL, window=4)
    with pytest.raises(UserError, match=r"window = 4: .* 'llama' doesn't have it"):
        config_to_hf(config, FAMILIES["llama"])
    assert config_to_hf(config, FAMILIES["mistral"])["sliding_window"] == 4


OPTIONS = st.fixed_dictionaries(
    {
        "n_kv_heads": st.sampled_from([None, 1, 2]),
        "head_dim": st.sampled_from([None, 12]),
        "positions": st.sampled_from(["rotary"] * 5 + ["learned", "none"]),
        "rope_theta": st.sampled_from([10_000.0, 77.7]),
        "rope_fraction": st.sampled_from([1.0, 1.0, 1.0, 0.5]),
        "window": st.sampled_from([None, 3]),
        "qk_norm": st.booleans(),
        "qkv_bias": st.sampled_from([None, True]),
        "attention_scale": st.sampled_from([None, None, 0.25, 0.3]),
        "logit_softcap": st.sampled_from([None, None, 2.0]),
        "norm": st.sampled_from(["rmsnorm"] * 3 + ["layernorm"]),
        "norm_eps": st.sampled_from([1e-5, 0.1]),
        "post_norm": st.sampled_from([False, False, True]),
        "mlp": st.sampled_from(["swiglu", "swiglu", "geglu", "relu2"]),
        "experts": st.sampled_from(
            [None, None, Experts(3), Experts(3, 1, renormalize=False)]
        ),
        "bias": st.booleans(),
        "tie_embeddings": st.booleans(),
        "scale_embeddings": st.sampled_from([False, False, True]),
    }
)


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(OPTIONS)
@torch.no_grad()
def test_any_model_is_refused_or_comes_back_the_same(options):
    if options["positions"] != "rotary":
        options["rope_fraction"], options["rope_theta"] = 1.0, 10_000.0
    config = ModelConfig(**SMALL, **options)
    try:
        values = config_to_hf(config)
    except UserError as error:
        named = str(error).split(" = ")[0]
        assert named.split(".")[0] in {f.name for f in dataclasses.fields(config)}
        return
    again, family = config_from_hf(values)
    model, other = Decoder(config).eval(), Decoder(again).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.5)
    weights = tensors_to_hf(family, model)
    other.load_state_dict(
        tensors_from_hf(family, again, weights), strict=not again.tie_embeddings
    )
    tokens = torch.randint(11, (1, 9))
    wanted, found = model(tokens).logits, other(tokens).logits
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
