"""Pretraining end to end, on texts of a few thousand characters."""

import json

import pytest

from folio.config import UserError, build, merge
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe

TINY = {
    "name": "tiny",
    "tokenizer": {"kind": "char"},
    "model": {"max_seq_len": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "optim": {"lr": 0.01, "warmup": 2},
    "train": {"steps": 6, "batch": 4, "eval_every": 3, "save_every": 3},
    "sample": {"every": 3, "prompts": ["the "], "max_new_tokens": 8},
    "log": {"every": 2},
}


def text_of(folder, words=400):
    path = folder / "text.txt"
    path.write_text("the cat sat on the mat. " * words, encoding="utf-8")
    return path


def recipe_for(path, **changes):
    return build(
        PretrainRecipe, merge(merge(TINY, {"data": {"path": str(path)}}), changes)
    )


def silent(text):
    pass


def test_a_run_leaves_everything_behind(tmp_path):
    run = pretrain(recipe_for(text_of(tmp_path)), tmp_path / "run", say=silent)
    names = {path.name for path in run.folder.iterdir()} - {".lock"}
    assert names == {
        *("recipe.toml", "run.json", "model", "snapshots", "shards"),
        *("metrics.jsonl", "samples.jsonl", "figures", "report.html"),
    }
    assert {path.name for path in run.model.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json"),
    }
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6]
    assert [row["step"] for row in rows if "val_loss" in row] == [3, 6]
    samples = [json.loads(line) for line in run.samples.read_text().splitlines()]
    assert [row["step"] for row in samples] == [0, 3, 6]
    info = run.read_info()
    assert info["status"] == "finished"
    losses = [row["val_loss"] for row in rows if "val_loss" in row]
    assert info["results"]["val_loss"] == min(losses)
    assert info["results"]["tokens"] == 6 * 4 * 16


@pytest.mark.parametrize("kind", ["byte", "bpe", "word_bpe", "wordpiece"])
def test_every_tokenizer_serves(tmp_path, kind):
    recipe = recipe_for(text_of(tmp_path), tokenizer={"kind": kind, "vocab_size": 300})
    run = pretrain(recipe, tmp_path / "run", say=silent)
    assert run.read_info()["tokenizer"]["kind"] == kind


def test_what_else_is_measured_is_logged(tmp_path):
    run = pretrain(
        recipe_for(text_of(tmp_path)),
        tmp_path / "run",
        also_measure=lambda model, tokenizer: {"answer": 42.0},
        say=silent,
    )
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["answer"] for row in rows if "val_loss" in row] == [42.0, 42.0]


def test_it_learns(tmp_path):
    recipe = recipe_for(text_of(tmp_path), train={"steps": 60, "eval_every": 60})
    run = pretrain(recipe, tmp_path / "run", say=silent)
    # 14 characters; a uniform guess costs ln(14 + 7 special tokens) = 3.04 nats
    assert run.read_info()["results"]["val_loss"] < 1.5


def test_the_same_recipe_twice_gives_the_same_weights(tmp_path):
    recipe = recipe_for(text_of(tmp_path), model={"dropout": 0.1})
    weights = [
        (pretrain(recipe, tmp_path / name, say=silent).model / "model.safetensors")
        for name in ("a", "b")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_failed_start_leaves_no_folder(tmp_path):
    path = text_of(tmp_path, words=1)
    with pytest.raises(UserError, match="at least"):
        pretrain(
            recipe_for(path, model={"max_seq_len": 512}), tmp_path / "run", say=silent
        )
    assert not (tmp_path / "run").exists()


def test_a_smaller_text_than_asked_for_is_noted(tmp_path):
    recipe = recipe_for(
        text_of(tmp_path), tokenizer={"kind": "bpe", "vocab_size": 5000}
    )
    run = pretrain(recipe, tmp_path / "run", say=silent)
    assert "not tokenizer.vocab_size = 5000" in run.read_info()["notes"][0]
