"""Using a run that a tiny training made: writing on and measuring."""

import argparse
import json
import math

import pytest

from folio.config import UserError
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.infer.generate import generate_text
from folio.infer.sampling import GREEDY
from folio.model.config import ModelConfig
from folio.stages.pretrain import pretrain
from folio.stages.recipe import (
    DataRecipe,
    OptimRecipe,
    PretrainRecipe,
    SampleRecipe,
    TokenizerRecipe,
    TrainRecipe,
)
from folio.stages.use import (
    compare_runs,
    encode_file,
    evaluate_perplexity,
    load_run,
    write_on,
)
from folio.text.byte import ByteTokenizer
from folio.text.char import CharTokenizer

TEXT = "".join(f"{n} times {n} is {n * n}.\n" for n in range(300))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps, its vocabulary padded beyond the tokenizer's."""
    folder = tmp_path_factory.mktemp("use")
    (folder / "text.txt").write_text(TEXT)
    recipe = PretrainRecipe(
        tokenizer=TokenizerRecipe(kind="char"),
        data=DataRecipe(path=str(folder / "text.txt")),
        model=ModelConfig(
            vocab_size=64, max_seq_len=16, d_model=16, n_layers=1, n_heads=2
        ),
        optim=OptimRecipe(warmup=2),
        train=TrainRecipe(steps=8, batch=4, device="cpu", eval_every=4, save_every=0),
        sample=SampleRecipe(every=8, max_new_tokens=4),
    )
    pretrain(recipe, folder / "run", say=lambda text: None)
    return folder / "run"


def asked(run, **changes) -> argparse.Namespace:
    options = {
        "run": run,
        "prompt": "7 times",
        "max_new_tokens": 30,
        "temperature": 0.8,
        "top_k": None,
        "top_p": None,
        "min_p": None,
        "repetition_penalty": 1.0,
        "seed": 0,
        "samples": 1,
        "draft": None,
        "lookup": None,
        "ahead": 4,
        "device": "cpu",
    }
    return argparse.Namespace(**(options | changes))


def test_a_run_gives_its_model_and_tokenizer(run):
    model, tokenizer = load_run(run, "cpu")
    assert model.config.vocab_size == 64
    assert tokenizer.vocab_size < 64
    assert not model.training
    assert tokenizer.decode(tokenizer.encode("7 times 7")) == "7 times 7"


def test_writing_on_prints_the_prompt_and_what_follows(run, capsys):
    write_on(asked(run, temperature=0.0))
    printed = capsys.readouterr().out
    model, tokenizer = load_run(run, "cpu")
    wanted = "".join(generate_text(model, tokenizer, "7 times", 30, sampling=GREEDY))
    assert printed == "7 times" + wanted + "\n"
    assert wanted


def test_seeds_repeat_and_samples_count_them_up(run, capsys):
    def printed(**changes) -> str:
        write_on(asked(run, **changes))
        return capsys.readouterr().out

    first, second, other = printed(), printed(), printed(seed=1)
    assert first == second != other
    both = printed(samples=2).split("\n" + "-" * 40 + "\n")
    assert [part.strip() for part in both] == [first.strip(), other.strip()]


def test_an_empty_prompt_begins_a_text(run, capsys):
    write_on(asked(run, prompt=""))
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"top_p": 2.0}, "top_p = 2.0"),
        ({"max_new_tokens": -3}, "max_new_tokens = -3"),
        ({"prompt": "Ω"}, "Ω"),
        ({"device": "tpu"}, "'tpu'"),
    ],
)
def test_bad_requests_are_one_line(run, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        write_on(asked(run, **changes))
    assert "\n" not in str(caught.value)


def test_eval_measures_what_training_measured(run, capsys):
    evaluate_perplexity(run, device="cpu")
    lines = capsys.readouterr().out.splitlines()
    printed = {line.split()[0]: float(line.split()[1]) for line in lines[1:]}
    results = json.loads((run / "run.json").read_text())["results"]
    for name in ("val_loss", "val_perplexity", "val_bits_per_byte"):
        assert printed[name] == pytest.approx(results[name], abs=1e-4)
    assert printed["val_perplexity"] == pytest.approx(
        math.exp(printed["val_loss"]), 1e-3
    )


def test_eval_of_another_text(run, tmp_path, capsys):
    path = tmp_path / "other.txt"
    path.write_text("2 times 3 is 6.\n" * 20)
    evaluate_perplexity(run, str(path), device="cpu")
    printed = capsys.readouterr().out
    model, tokenizer = load_run(run, "cpu")
    wanted = perplexity(model, encode_file(str(path), tokenizer), 16)
    assert f"{wanted['val_loss']:.4f}" in printed
    assert str(path) in printed


def test_a_text_is_encoded_with_its_ends_and_its_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("né")
    tokens = encode_file(str(tmp_path / "a.txt"), ByteTokenizer())
    assert isinstance(tokens, Tokens)
    assert tokens[:].tolist() == [110, 195, 169, ByteTokenizer().end_of_text]
    assert (tokens.documents, tokens.text_bytes) == (1, 3)


def test_a_folder_without_a_run_is_named(run, tmp_path):
    with pytest.raises(UserError, match="nowhere holds no run"):
        load_run(tmp_path / "nowhere", "cpu")
    with pytest.raises(UserError, match=r"missing\.txt"):
        evaluate_perplexity(run, str(tmp_path / "missing.txt"), device="cpu")


def test_a_tokenizer_larger_than_the_model_is_refused(run, tmp_path):
    other = tmp_path / "run" / "model"
    other.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (other / name).write_bytes((run / "model" / name).read_bytes())
    tokenizer = CharTokenizer.train(["".join(map(chr, range(100, 300)))])
    tokenizer.save(other / "tokenizer.json")
    with pytest.raises(UserError, match=r"model only 64; they don't belong together"):
        load_run(other.parent, "cpu")


def test_using_a_run_changes_nothing_in_it(run, capsys):
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file()}

    before = content()
    write_on(asked(run))
    evaluate_perplexity(run, device="cpu")
    assert content() == before


def test_runs_are_compared_in_a_table_and_a_page(run, tmp_path, capsys):
    compare_runs([run], tmp_path / "compare.html")
    printed = capsys.readouterr().out
    assert "val_loss" in printed.splitlines()[0]
    assert printed.splitlines()[1].startswith("run ")
    assert (tmp_path / "compare.html").is_file()
