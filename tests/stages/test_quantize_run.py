"""`folio quantize`: a smaller run that loads, with its loss measured."""

import shutil

import pytest

from folio import __version__
from folio.config import UserError
from folio.data.shards import open_shards
from folio.evals.agreement import agreement
from folio.evals.perplexity import perplexity
from folio.model.quantize import Quantization, quantization_of
from folio.runtime import git_commit, machine
from folio.stages.parent import fingerprint
from folio.stages.pretrain import pretrain
from folio.stages.quantize import quantize_run
from folio.stages.use import encode_file, evaluate_perplexity, load_run
from folio.training.run import Run
from helpers import tale, tiny_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Windows of 12 tokens, for a model that could read 16; and guesses that are near
    to one another, so that rounding changes some."""
    folder = tmp_path_factory.mktemp("quantize")
    changes = {
        "model": {"d_model": 64, "d_ff": 128, "tie_embeddings": False},
        "train": {"length": 12, "steps": 2, "eval_every": 2},
    }
    pretrain(tiny_recipe(folder, **changes), folder / "run", say=lambda text: None)
    return folder / "run"


def quiet(text: str) -> None:
    """Say nothing."""


def weights_of(folder) -> int:
    return (folder / "model" / "model.safetensors").stat().st_size


@pytest.mark.parametrize(("bits", "group"), [(8, 32), (4, 64)])
def test_a_run_is_made_smaller_and_measured(run, tmp_path, bits, group, capsys):
    said, out = [], tmp_path / "small"
    out.mkdir()  # empty, so free to take
    small = quantize_run(run, out, bits=bits, group=group, say=said.append)
    model, tokenizer = load_run(out, "cpu")
    assert quantization_of(model) == Quantization(bits, group)
    plain, _ = load_run(run, "cpu")
    tokens = open_shards(run / "shards", "validation", tokenizer)
    before, after = (perplexity(one, tokens, 12) for one in (plain, model))
    assert before["val_loss"] != after["val_loss"]
    assert abs(after["val_loss"] - before["val_loss"]) < 0.05
    same = agreement(plain, model, tokens, 12)
    assert 0.5 < same < 1
    sizes = {"bytes_before": weights_of(run), "bytes": weights_of(out)}
    assert sizes["bytes"] < 0.5 * sizes["bytes_before"]
    info = small.read_info()
    assert info["results"] == after | {"agreement": same} | sizes
    was, now = sizes["bytes_before"] / 1e6, sizes["bytes"] / 1e6
    assert said[0].split() == ["weights", f"{was:.2f}", "MB", "->", f"{now:.2f}", "MB"]
    change = after["val_loss"] - before["val_loss"]
    found = [f"{before['val_loss']:.4f}", "->", f"{after['val_loss']:.4f}"]
    assert said[1].split() == ["val_loss", *found, f"({change:+.4f})"]
    assert said[-1].split() == ["same", "first", "guess", f"{same:.2%}"]
    evaluate_perplexity(out, device="cpu")  # finds the parent's text
    assert f"{after['val_loss']:.4f}" in capsys.readouterr().out


def test_a_run_says_where_it_comes_from(run, tmp_path):
    info = quantize_run(run, tmp_path / "small", bits=4, say=quiet).read_info()
    assert info["parent"] == {"path": str(run), "fingerprint": fingerprint(run)}
    assert info["notes"] == ["weights rounded to 4 bits"]
    assert (info["status"], info["step"]) == ("finished", 2)
    assert (info["folio"], info["commit"]) == (__version__, git_commit())
    assert machine().items() <= info.items()


def test_an_imported_run_has_no_text_of_its_own(run, tmp_path):
    imported, text = tmp_path / "imported", tmp_path / "text.txt"
    shutil.copytree(run / "model", imported / "model")
    with pytest.raises(UserError, match="imported, without a text: give one with"):
        quantize_run(imported, tmp_path / "small", say=quiet)
    assert not (tmp_path / "small").exists()
    text.write_text(tale(20)[::-1], encoding="utf-8")
    small = quantize_run(imported, tmp_path / "small", path=str(text), say=quiet)
    assert not small.recipe.exists()
    model, tokenizer = load_run(small.folder, "cpu")
    expected = perplexity(model, encode_file(str(text), tokenizer), 16)
    results = small.read_info()["results"]
    assert {name: results[name] for name in expected} == expected
    assert small.read_info()["step"] == 0
    assert Run(imported).read_info() == {}


def test_refusals(run, tmp_path):
    for words, ask in {
        "bits = 5": {"bits": 5},
        "group = 7": {"group": 7},
        "not divisible by group = 128": {"bits": 4, "group": 128},
        "device 'abacus' is not available": {"device": "abacus"},
    }.items():
        with pytest.raises(UserError, match=words):
            quantize_run(run, tmp_path / "out", **ask)
    assert not (tmp_path / "out").exists()
    small = quantize_run(run, tmp_path / "small", say=quiet)
    with pytest.raises(UserError, match="8-bit weights already"):
        quantize_run(small.folder, tmp_path / "out")
    with pytest.raises(UserError, match="not empty"):
        quantize_run(run, tmp_path / "small")
    with pytest.raises(UserError, match="holds no run"):
        quantize_run(tmp_path / "nothing", tmp_path / "out")
