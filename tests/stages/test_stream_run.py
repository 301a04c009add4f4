"""`folio stream`: the text of a stream, whole characters, and a clean end."""

import argparse
import builtins
import re
from itertools import islice

import pytest
import torch

from folio.config import UserError
from folio.infer.generate import generate
from folio.infer.sampling import Sampling
from folio.infer.stream import streaming
from folio.model.store import load_model
from folio.stages.pretrain import pretrain
from folio.stages.stream import endless_text, stream_run
from folio.stages.use import load_run
from helpers import tiny_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    recipe = tiny_recipe(folder, train={"steps": 4, "save_every": 0})
    pretrain(recipe, folder / "run", say=lambda text: None)
    return folder / "run"


def asked(run, **changes) -> argparse.Namespace:
    options = {
        "run": run,
        "prompt": "On day",
        "window": None,
        "sinks": None,
        "max_new_tokens": 100,
        "temperature": 0.8,
        "top_k": None,
        "top_p": None,
        "min_p": None,
        "repetition_penalty": 1.0,
        "seed": 0,
        "device": "cpu",
    }
    return argparse.Namespace(**(options | changes))


def test_it_prints_a_stream_and_reports_on_the_side(run, capsys):
    stream_run(asked(run, window=6, sinks=2))
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"\n100 tokens, [\d,.]+ tokens/s, at most [\d,]+ MiB of memory "
        r"\(window 6, sinks 2\)\n",
        err,
    )
    model, tokenizer = load_run(run, "cpu")
    ids = generate(
        streaming(model, 6, 2),
        tokenizer.encode("On day"),
        100,
        sampling=Sampling(0.8),
        vocab_size=tokenizer.vocab_size,
    )
    text = tokenizer.decode(ids, special=False)
    assert out.startswith("On day")
    assert out.replace("\n", "") == ("On day" + text).replace("\n", "")


def test_a_seed_decides_and_other_settings_count(run, capsys):
    texts = []
    for changes in ({}, {}, {"seed": 1}, {"window": 3}, {"temperature": 0.2}):
        stream_run(asked(run, **changes))
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_an_end_of_text_is_an_empty_line_and_not_the_end(run):
    model, tokenizer = load_run(run, "cpu")
    model = streaming(model)
    end = tokenizer.end_of_text
    scores = torch.arange(model.config.vocab_size) == end
    model.read = lambda hidden: scores[None].float()
    pieces = endless_text(model, tokenizer, "", 3, sampling=Sampling(0.0))
    assert list(pieces) == ["\n\n"] * 3


def test_without_a_number_it_has_no_end(run):
    model, tokenizer = load_run(run, "cpu")
    pieces = endless_text(streaming(model), tokenizer, "", sampling=Sampling())
    assert len(list(islice(pieces, 300))) == 300


def interrupt_after(pieces: int, error: type[BaseException], monkeypatch) -> None:
    """Let the terminal break off with `error`."""
    left = [pieces]

    def broken(*values, file=None, **options):
        left[0] -= file is None
        if file is None and left[0] == 0:
            raise error
        shown(*values, file=file, **options)

    shown = builtins.print
    monkeypatch.setattr(builtins, "print", broken)


def test_ctrl_c_ends_it_with_a_report(run, capsys, monkeypatch):
    interrupt_after(12, KeyboardInterrupt, monkeypatch)
    stream_run(asked(run, max_new_tokens=None))
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert err.startswith("\n10 tokens, ")


def test_a_closed_pipe_too(run, capsys, monkeypatch):
    interrupt_after(12, BrokenPipeError, monkeypatch)
    with pytest.raises(BrokenPipeError):  # which the command line expects
        stream_run(asked(run, max_new_tokens=None))
    assert "10 tokens" in capsys.readouterr().err


def test_an_impossible_window_is_one_line(run):
    context = load_model(run / "model").config.max_seq_len
    with pytest.raises(UserError, match=rf"window = 99 .* max_seq_len = {context}"):
        stream_run(asked(run, window=99))


def test_every_flag_of_sampling_is_heard(run, capsys):
    """Not one that the command takes and then forgets."""
    texts = []
    for penalty in (1.0, 50.0):
        stream_run(
            asked(run, temperature=0.0, max_new_tokens=40, repetition_penalty=penalty)
        )
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1]
