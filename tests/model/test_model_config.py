"""A configuration that can't work fails where it is written, with a remedy."""

import re

import pytest

from folio.config import UserError, build
from folio.model.config import ModelConfig, gpt2_like, llama_like
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
]


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
