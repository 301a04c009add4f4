"""`folio show`: the recipe explained and its costs, with nothing run."""

import tomllib

import pytest
import torch

from folio.config import build
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.stages.recipe import PretrainRecipe, TokenizerRecipe, TrainRecipe
from folio.stages.show import annotated, field_comments, matmul_speed, memory, show

RECIPE = PretrainRecipe(
    tokenizer=TokenizerRecipe(kind="byte"),
    model=ModelConfig(d_model=32, n_layers=2, n_heads=2, max_seq_len=16),
    train=TrainRecipe(steps=10, batch=4, accumulate=3),
)


def test_the_annotated_recipe_is_still_the_recipe():
    text = annotated(RECIPE)
    assert build(PretrainRecipe, tomllib.loads(text)) == RECIPE


def test_fields_carry_the_comments_of_their_dataclasses():
    text = annotated(RECIPE)
    for name, comment in (
        ("warmup = ", None),
        ("floor = ", "of the peak, at the end"),
        ("max_norm = ", "gradients are clipped to it; 0: not at all"),
        ("accumulate = ", "micro-batches per update"),
    ):
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        assert line.split("  # ")[1:] == ([comment] if comment else [])
    assert "\n# n_kv_heads" in text  # not set: shown all the same
    comments = field_comments(ModelConfig)
    assert comments["n_kv_heads"].startswith("G; none: as many as")


def test_costs_are_printed(capsys):
    show(RECIPE)
    printed = capsys.readouterr().out
    config = ModelConfig(vocab_size=263, **{"d_model": 32, "n_layers": 2, "n_heads": 2})
    real = sum(p.numel() for p in Decoder(config).parameters())
    assert f"total       {real:>14,}" in printed
    assert "training on 1,920 tokens" in printed  # 10 steps of 3 x 4 x 16
    assert "on this CPU" in printed


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "word_bpe", "wordpiece"])
def test_every_kind_of_tokenizer_has_a_vocabulary_to_count_with(kind, capsys):
    show(PretrainRecipe(tokenizer=TokenizerRecipe(kind=kind, vocab_size=500)))
    assert "parameters" in capsys.readouterr().out


def test_nothing_is_built_and_no_chance_is_used(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Decoder, "__init__", None)
    show(RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_memory_counts_what_training_holds():
    config = ModelConfig(vocab_size=263, d_model=32, n_layers=2, n_heads=2)
    parameters = sum(p.numel() for p in Decoder(config).parameters())
    sizes = memory(config, RECIPE)
    assert sizes["weights"] == sizes["gradients"] == 4 * parameters
    assert sizes["optimizer"] == 8 * parameters
    assert sizes["activations"] > 0


def test_the_estimate_of_activations_is_near_what_backward_keeps():
    """Count the bytes that autograd saves on the way forward."""
    config = ModelConfig(vocab_size=263, d_model=64, n_layers=4, n_heads=2)
    recipe = PretrainRecipe(
        model=config, train=TrainRecipe(batch=8, length=128, device="cpu")
    )
    model, saved = Decoder(config), {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.zeros(8, 128, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(tokens, targets=tokens).logprobs.sum()
    held = sum(saved.values())
    assert loss.requires_grad
    assert 0.6 < memory(config, recipe)["activations"] / held < 1.6


def test_the_speed_of_this_machine_is_a_speed():
    assert 1e8 < matmul_speed(size=64, seconds=0.01) < 1e14
