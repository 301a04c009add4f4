"""A model on disk comes back exactly, or not at all and with the reason."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from folio.config import UserError
from folio.model.config import ModelConfig, gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.model.store import load_model, load_tensors, model_tensors, save_model

SMALL = {"vocab_size": 11, "max_seq_len": 8, "d_model": 16, "n_layers": 2, "n_heads": 2}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    save_model(Decoder(ModelConfig(**SMALL)), tmp_path / "model")
    return tmp_path / "model"


def refusal(folder) -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("preset", [gpt2_like, llama_like, ModelConfig])
def test_saved_and_loaded_is_equal_to_the_bit(tmp_path, preset):
    torch.manual_seed(1)
    model = Decoder(preset(**SMALL)).eval()
    save_model(model, tmp_path / "new" / "folder")
    loaded = load_model(str(tmp_path / "new" / "folder"))
    assert loaded.config == model.config
    assert not loaded.training
    for (name, a), (other, b) in zip(
        model.named_parameters(), loaded.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b)
    tokens = torch.arange(8)[None]
    assert torch.equal(model(tokens).logits, loaded(tokens).logits)
    tied = model.config.tie_embeddings
    assert (loaded.head.weight is loaded.embedding.weight) == tied
    stored = load_file(tmp_path / "new" / "folder" / "model.safetensors")
    assert ("head.weight" in stored) != tied
    assert not list((tmp_path / "new" / "folder").glob(".*"))


def test_saving_over_a_model_replaces_it(saved):
    torch.manual_seed(9)
    other = Decoder(ModelConfig(**SMALL))
    save_model(other, saved)
    assert torch.equal(load_model(saved).embedding.weight, other.embedding.weight)


def test_loading_leaves_the_random_numbers_of_training_to_be_seeded_by_it(saved):
    first, second = load_model(saved), load_model(saved)
    assert torch.equal(first.embedding.weight, second.embedding.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load_as_fp32_with_their_values(saved, dtype):
    path = saved / "model.safetensors"
    tensors = {name: t.to(dtype) for name, t in load_file(path).items()}
    save_file(tensors, path)
    model = load_model(saved)
    assert model.embedding.weight.dtype == torch.float32
    assert torch.equal(model.embedding.weight, tensors["embedding.weight"].float())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert f"{name} is missing" in refusal(saved)
    assert str(saved) in refusal(saved)


def test_a_path_that_is_a_file_is_no_model(tmp_path):
    path = tmp_path / "thing"
    path.write_text("hello")
    assert "holds no model" in refusal(path)
    with pytest.raises(UserError, match=r"thing can't be a folder"):
        save_model(Decoder(ModelConfig(**SMALL)), path)
    with pytest.raises(UserError, match=r"can't be a folder"):
        save_model(Decoder(ModelConfig(**SMALL)), path / "below")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not valid JSON"]),
        ("", ["not valid JSON"]),
        ("[1, 2]", ["expected an object"]),
        ("null", ["expected an object"]),
        ('{"vocab_sise": 11}', ["'vocab_sise'", "did you mean 'vocab_size'?"]),
        ('{"vocab_size": "many"}', ["vocab_size", "'many'", "int"]),
        ('{"vocab_size": 11, "n_heads": 3}', ["n_heads = 3", "d_model"]),
        ('{"vocab_size": 11, "norm": "none"}', ["norm", "rmsnorm"]),
        ("{}", ["vocab_size = 0"]),
    ],
)
def test_a_config_that_makes_no_sense_is_named(saved, text, words):
    (saved / "config.json").write_text(text)
    message = refusal(saved)
    assert str(saved / "config.json") in message
    for word in words:
        assert word in message


def test_bytes_that_are_no_text_are_no_config(saved):
    (saved / "config.json").write_bytes(b"\xff\xfe{}")
    assert "not valid JSON" in refusal(saved)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t.pop("norm.gain"), ["missing ['norm.gain']"]),
        (
            lambda t: t.update({"extra.weight": torch.zeros(2)}),
            ["unexpected ['extra.weight']"],
        ),
        (
            lambda t: t.update({"head.weight": torch.zeros(11, 16)}),
            ["unexpected ['head.weight']"],
        ),
        (
            lambda t: t.update({"norm.gain": torch.zeros(15)}),
            ["'norm.gain'", "(15,)", "(16,)"],
        ),
        (
            lambda t: t.update({"norm.gain": torch.zeros(1)}),  # would broadcast
            ["'norm.gain'", "(1,)", "(16,)"],
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, damage, words):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path)
    message = refusal(saved)
    for word in [str(path), *words]:
        assert word in message


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_damaged_file_is_named(saved, keep):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    message = refusal(saved)
    assert str(path) in message
    assert "damaged" in message
    path.write_bytes(os.urandom(8) + data[8:])
    assert "damaged" in refusal(saved)


def test_a_refused_set_of_weights_changes_nothing():
    model = Decoder(ModelConfig(**SMALL))
    before = {name: t.clone() for name, t in model_tensors(model).items()}
    wrong = {name: torch.zeros_like(t) for name, t in before.items()}
    wrong["norm.gain"] = torch.zeros(3)
    with pytest.raises(UserError):
        load_tensors(model, wrong)
    for name, tensor in model_tensors(model).items():
        assert torch.equal(tensor, before[name])


def test_the_config_on_disk_is_every_field(saved):
    stored = json.loads((saved / "config.json").read_text())
    assert ModelConfig(**stored) == ModelConfig(**SMALL)
    assert set(stored) == set(ModelConfig.__dataclass_fields__)
