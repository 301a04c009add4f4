"""A configuration that can't work fails where it is written, with a remedy."""

import re

import pytest

from folio.config import UserError, build
from folio.model.config import (
    Experts,
    ModelConfig,
    RopeScaling,
    gpt2_like,
    llama_like,
)
from folio.model.decoder import Decoder

IMPOSSIBLE = [
    ({"d_model": 100, "n_heads": 3}, ["d_model = 100", "n_heads = 3", "d_model = 99"]),
    ({"d_model": 4, "n_heads": 8}, ["d_model = 4", "n_heads = 8", "d_model = 8"]),
    ({"d_model": 0}, ["d_model = 0", "at least 1"]),
    ({"n_layers": 0}, ["n_layers = 0", "at least 1"]),
    ({"n_heads": 0}, ["n_heads = 0", "at least 1"]),
    ({"n_heads": -4}, ["n_heads = -4", "at least 1"]),
    ({"max_seq_len": 0}, ["max_seq_len = 0", "at least 1"]),
    ({"d_ff": 0}, ["d_ff = 0", "at least 1"]),
    ({"d_ff": -8}, ["d_ff = -8", "at least 1"]),
    ({"vocab_size": -1}, ["vocab_size = -1", "at least 1"]),
    ({"n_kv_heads": 3}, ["n_kv_heads = 3", "n_heads = 4", "[1, 2, 4]"]),
    ({"n_kv_heads": 0}, ["n_kv_heads = 0", "[1, 2, 4]"]),
    ({"n_kv_heads": 8}, ["n_kv_heads = 8", "[1, 2, 4]"]),
    ({"d_model": 12, "n_heads": 4}, ["rotary", "3 of each head", "odd", "n_heads"]),
    (
        {"d_model": 7, "n_heads": 1, "positions": "sinusoidal"},
        ["sinusoidal", "7", "d_model = 8"],
    ),
    ({"dropout": 1.0}, ["dropout = 1.0", "[0, 1)"]),
    ({"dropout": -0.1}, ["dropout = -0.1", "[0, 1)"]),
    ({"dropout": float("nan")}, ["dropout = nan", "[0, 1)"]),
    ({"rope_theta": 0.0}, ["rope_theta = 0.0", "above 0"]),
    ({"rope_theta": -1.0}, ["rope_theta = -1.0", "above 0"]),
    ({"rope_theta": float("inf")}, ["rope_theta = inf"]),
    ({"norm_eps": 0.0}, ["norm_eps = 0.0", "above 0"]),
    ({"norm_eps": float("nan")}, ["norm_eps = nan"]),
    ({"embedding_std": 0.0}, ["embedding_std = 0.0", "above 0"]),
    ({"embedding_std": -0.02}, ["embedding_std = -0.02", "above 0"]),
    ({"positions": "rope"}, ["positions = 'rope'", "rotary", "learned"]),
    ({"norm": "rms"}, ["norm = 'rms'", "rmsnorm"]),
    ({"mlp": "relu"}, ["mlp = 'relu'", "swiglu", "gelu"]),
    ({"init": "xavier"}, ["init = 'xavier'", "fan_in"]),
    ({"head_dim": 0}, ["head_dim = 0", "at least 1"]),
    ({"head_dim": 7}, ["rotary", "7 of each head", "odd", "head_dim"]),
    ({"rope_fraction": 0.0}, ["rope_fraction = 0.0", "(0, 1]", "'none'"]),
    ({"rope_fraction": 1.5}, ["rope_fraction = 1.5", "(0, 1]"]),
    ({"rope_fraction": 0.01}, ["rope_fraction = 0.01", "no pair", "raise it"]),
    ({"rope_fraction": 0.35}, ["11 of each head", "odd", "rope_fraction"]),
    (
        {"rope_scaling": RopeScaling("linear", 2.0), "positions": "learned"},
        ["rope_scaling", "positions = 'learned'", "positions = 'rotary'"],
    ),
    (
        {"rope_scaling": RopeScaling("ntk", 2.0), "rope_theta": 1.0},
        ["rope_theta = 1.0", "above 1"],
    ),
    ({"window": 0}, ["window = 0", "at least 1"]),
    ({"sinks": 4}, ["sinks = 4", "set window"]),
    ({"sinks": -1, "window": 4}, ["sinks = -1", "0 or more"]),
    ({"attention_pattern": "wf"}, ["attention_pattern = 'wf'", "set window"]),
    (
        {"attention_pattern": "f", "window": 4},
        ["window = 4", "attention_pattern = 'f'", "no windowed layer"],
    ),
    (
        {"attention_pattern": "fffffw", "window": 4},  # the w is past the last layer
        ["window = 4", "attention_pattern = 'fffffw'", "n_layers = 4"],
    ),
    (
        {"attention_pattern": "wx", "window": 4},
        ["attention_pattern = 'wx'", "letters 'wf'"],
    ),
    ({"attention_pattern": "", "window": 4}, ["attention_pattern = ''", "letters"]),
    ({"attention_scale": 0.0}, ["attention_scale = 0.0", "above 0"]),
    ({"attention_softcap": -1.0}, ["attention_softcap = -1.0", "above 0"]),
    ({"logit_softcap": float("inf")}, ["logit_softcap = inf"]),
    ({"mlp_pattern": "de"}, ["mlp_pattern = 'de'", "set experts"]),
    ({"mlp_pattern": "dx"}, ["mlp_pattern = 'dx'", "letters 'deb'"]),
    (
        {"mlp_pattern": "d", "experts": Experts()},
        ["experts", "mlp_pattern = 'd'", "'e' or 'b'"],
    ),
]

IMPOSSIBLE_PARTS = [
    (Experts, {"count": 0}, ["count = 0", "at least 1"]),
    (Experts, {"active": 0}, ["active = 0", "at least 1"]),
    (Experts, {"count": 2, "active": 3}, ["active = 3", "count = 2", "more experts"]),
    (Experts, {"shared": -1}, ["shared = -1", "at least 0"]),
    (Experts, {"width": 0}, ["width = 0", "at least 1"]),
    (Experts, {"router": "hash"}, ["router = 'hash'", "softmax", "sigmoid"]),
    (Experts, {"balance": -0.1}, ["balance = -0.1", "0 or more"]),
    (Experts, {"z_loss": float("nan")}, ["z_loss = nan", "0 or more"]),
    (Experts, {"bias_rate": -1.0}, ["bias_rate = -1.0", "0 or more"]),
    (Experts, {"bias_rate": 0.1}, ["bias_rate = 0.1", "'sigmoid'", "balance"]),
    (RopeScaling, {"kind": "dynamic"}, ["kind = 'dynamic'", "yarn", "llama3"]),
    (RopeScaling, {"factor": 0.5}, ["factor = 0.5", "at least 1"]),
    (RopeScaling, {"factor": float("inf")}, ["factor = inf"]),
    (RopeScaling, {"kind": "yarn"}, ["kind = 'yarn'", "needs original_len"]),
    (RopeScaling, {"kind": "llama3"}, ["kind = 'llama3'", "needs original_len"]),
    (
        RopeScaling,
        {"kind": "llama3", "original_len": 8, "low": 4.0},
        ["high = 4.0", "above low = 4.0"],
    ),
    (RopeScaling, {"low": 0.0}, ["low = 0.0", "above 0"]),
    (RopeScaling, {"magnitude": 0.0}, ["magnitude = 0.0", "above 0"]),
    (
        RopeScaling,
        {"kind": "yarn", "original_len": 0},
        ["original_len = 0", "at least 1"],
    ),
]


@pytest.mark.parametrize(("part", "fields", "words"), IMPOSSIBLE_PARTS)
def test_an_impossible_part_names_field_value_and_remedy(part, fields, words):
    usual = {"kind": "linear", "factor": 2.0} if part is RopeScaling else {}
    with pytest.raises(UserError) as caught:
        part(**(usual | fields))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_patterns_repeat_over_the_layers():
    config = ModelConfig(
        n_layers=6,
        window=8,
        attention_pattern="wwf",
        mlp_pattern="deb",
        experts=Experts(),
    )
    assert config.layer_windows == (8, 8, None, 8, 8, None)
    assert config.windowed_layers == (0, 1, 3, 4)
    assert config.layer_mlps == "debdeb"
    assert config.expert_layers == (1, 2, 4, 5)
    assert ModelConfig(window=8).layer_windows == (8,) * 4
    assert ModelConfig().layer_windows == (None,) * 4
    assert ModelConfig(experts=Experts()).layer_mlps == "eeee"
    assert ModelConfig().layer_mlps == "dddd"


def test_a_token_meets_as_many_weights_in_experts_as_in_a_dense_part():
    for active, shared in ((1, 0), (2, 0), (3, 1)):
        config = ModelConfig(
            d_model=96, experts=Experts(active=active, count=8, shared=shared)
        )
        met = (active + shared) * config.expert_width
        assert 0 <= met - config.ff_width < 8 * (active + shared)
    assert ModelConfig(experts=Experts(width=20)).expert_width == 20


def test_nested_tables_are_built_from_a_recipe():
    config = build(
        ModelConfig,
        {
            "rope_scaling": {"kind": "yarn", "factor": 2.0, "original_len": 64},
            "experts": {"count": 4, "active": 1},
            "latent": {"rank": 32},
        },
    )
    assert config.rope_scaling.high_turns == 32
    assert config.experts.count == 4
    assert config.latent.rank == 32
    assert config.cache_shape == (1, 48, 0)
    assert ModelConfig(n_kv_heads=2).cache_shape == (2, 32, 32)


@pytest.mark.parametrize(("fields", "words"), IMPOSSIBLE)
def test_an_impossible_choice_names_field_value_and_remedy(fields, words):
    with pytest.raises(UserError) as caught:
        ModelConfig(**fields)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_suggested_width_works():
    for width in range(1, 40):
        for heads in (1, 3, 4, 7):
            try:
                ModelConfig(d_model=width, n_heads=heads, positions="none")
            except UserError as error:
                advice = int(re.findall(r"d_model = (\d+)", str(error))[-1])
                ModelConfig(d_model=advice, n_heads=heads, positions="none")


def test_a_decoder_needs_a_vocabulary():
    with pytest.raises(UserError, match=r"vocab_size = 0: .*tokenizer"):
        Decoder(ModelConfig())


def test_an_unknown_field_offers_the_nearest():
    with pytest.raises(UserError, match=r"'d_modell'; did you mean 'd_model'\?"):
        build(ModelConfig, {"d_modell": 64})


@pytest.mark.parametrize("width", [8, 60, 64, 128, 384, 768])
def test_swiglu_costs_what_gelu_costs(width):
    swiglu = ModelConfig(d_model=width, n_heads=1, mlp="swiglu")
    gelu = ModelConfig(d_model=width, n_heads=1, mlp="gelu")
    assert swiglu.ff_width % 8 == 0
    assert 0 <= 3 * swiglu.ff_width - 2 * gelu.ff_width < 24


def test_a_width_given_is_a_width_kept():
    assert ModelConfig(d_ff=100).ff_width == 100
    assert ModelConfig(n_kv_heads=None).kv_heads == 4
    assert ModelConfig(n_kv_heads=1).kv_heads == 1


def test_presets_are_their_families_and_can_be_changed():
    gpt2 = gpt2_like(d_model=64, vocab_size=10)
    assert (gpt2.positions, gpt2.norm) == ("learned", "layernorm")
    assert gpt2.mlp == "gelu_tanh"
    assert gpt2.bias
    assert gpt2.tie_embeddings
    llama = llama_like(d_model=64, n_kv_heads=2)
    assert (llama.positions, llama.norm, llama.mlp) == ("rotary", "rmsnorm", "swiglu")
    assert not llama.bias
    assert not llama.tie_embeddings
    assert llama_like(tie_embeddings=True).tie_embeddings
