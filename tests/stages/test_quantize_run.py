"""`folio quantize`: a smaller run that loads, with its loss measured."""

import pytest

from folio.config import UserError
from folio.data.shards import open_shards
from folio.evals.perplexity import perplexity
from folio.model.quantize import quantization_of
from folio.stages.pretrain import pretrain
from folio.stages.quantize import quantize_run
from folio.stages.use import evaluate_run, load_run
from helpers import tiny_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    shape = {"d_model": 32, "d_ff": 64}
    pretrain(tiny_recipe(folder, model=shape), folder / "run", say=lambda text: None)
    return folder / "run"


@pytest.mark.parametrize("bits", [8, 4])
def test_a_run_is_made_smaller_and_measured(run, tmp_path, bits, capsys):
    said = []
    small = quantize_run(run, tmp_path / "small", bits=bits, say=said.append)
    model, tokenizer = load_run(small.folder, "cpu")
    assert quantization_of(model).bits == bits
    info = small.read_info()
    results = info["results"]
    assert results["bytes"] < 0.5 * results["bytes_before"]
    assert info["parent"]["path"] == str(run)
    assert 0.5 < results["agreement"] <= 1
    evaluate_run(small.folder, "perplexity", None, "cpu")  # finds the parent's text
    assert f"{results['val_loss']:.4f}" in capsys.readouterr().out
    plain, _ = load_run(run, "cpu")
    tokens = open_shards(run / "shards", "validation", tokenizer)
    before = perplexity(plain, tokens, 16)["val_loss"]
    assert f"{before:.4f}" in "\n".join(said)
    assert results["val_loss"] != before
    assert abs(results["val_loss"] - before) < 0.05


def test_refusals(run, tmp_path):
    for words, ask in {
        "bits = 5": {"bits": 5},
        "group = 7": {"group": 7},
        "not divisible by group = 128": {"bits": 4, "group": 128},
    }.items():
        with pytest.raises(UserError, match=words):
            quantize_run(run, tmp_path / "out", **ask)
    assert not (tmp_path / "out").exists()
    small = quantize_run(run, tmp_path / "small", say=lambda text: None)
    with pytest.raises(UserError, match="8-bit weights already"):
        quantize_run(small.folder, tmp_path / "out")
    with pytest.raises(UserError, match="not empty"):
        quantize_run(run, tmp_path / "small")
    with pytest.raises(UserError, match="holds no run"):
        quantize_run(tmp_path / "nothing", tmp_path / "out")
