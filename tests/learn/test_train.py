"""Training with a learner's pieces: they take part, and failures name them."""

import json
import subprocess
import sys

import pytest

from folio.config import UserError
from folio.learn import train as training
from folio.learn.exercises import find
from folio.learn.folder import Folder
from folio.learn.lesson import MODELS, blamed, pieces_of
from folio.learn.train import drawn, summary, train
from learn.answers import changed, right, write


def result(*losses: float) -> dict:
    return {"losses": losses, "samples": [(1, losses[0], "<b>once")]}


def passed(folder, name: str, text: str) -> None:
    write(folder, name, text)
    Folder(folder).note(find(name), passed=True)


def test_only_what_has_passed_takes_part(tmp_path, monkeypatch):
    passed(tmp_path, "layer_norm", right("layer_norm"))
    write(tmp_path, "small_gpt", "not yet")
    asked = []

    def lesson(model, steps, pieces):
        asked.append((model, steps, pieces))
        return result(3.0, 2.0)

    monkeypatch.setattr(training, "lesson", lesson)
    page = train(tmp_path, steps=7)
    file = (tmp_path / "layer_norm.py").resolve()
    assert asked == [("gpt", 7, [f"layer_norm={file}"]), ("gpt", 7, [])]
    text = page.read_text()
    assert "LayerNorm" in text
    assert "&lt;b&gt;once" in text
    assert "the curves lie on one another" in text


def test_curves_that_differ_are_said_to():
    said = summary(result(3.0, 2.5), result(3.0, 2.0))
    assert said.endswith("the curves differ by 0.500 nats at most, from step 2 on")
    said = summary(result(3.2, 2.5), result(3.0, 2.5))
    assert "0.200 nats at most, from step 1 on: a model that draws its first" in said
    assert "yours" in drawn("llama", ["rotary"], result(3.0, 2.5), result(3.0, 2.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no piece of this model has passed yet"),
        ({"model": "bert"}, "choose one of gpt, llama"),
        ({"steps": 0}, "must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        train(tmp_path, **options)


def test_a_piece_that_is_gone(tmp_path):
    Folder(tmp_path).note(find("layer_norm"), passed=True)
    with pytest.raises(UserError, match=r"layer_norm\.py has passed, but is gone"):
        train(tmp_path)


def test_every_piece_is_an_exercise():
    for model in MODELS:
        assert [find(name).name for name in pieces_of(model)] == list(pieces_of(model))


def lesson(tmp_path, model: str, *pieces: str) -> dict:
    """Two steps, in a process of its own."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "folio.learn.lesson", model, "2", str(out)]
    subprocess.run([*command, *pieces], check=True, capture_output=True)
    return json.loads(out.read_text())


def test_a_failure_is_blamed_on_the_file_it_came_through():
    def caught(text: str, file: str) -> str:
        try:
            exec(compile(text, file, "exec"))
        except Exception as error:
            return blamed(error, ["mine.py"])

    assert caught("1\n1 / 0", "mine.py") == (
        "mine.py, line 2: ZeroDivisionError: division by zero"
    )
    assert caught("1\n1 / 0", "other.py") == (
        "what one of them gives can't be used: ZeroDivisionError: division by zero"
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(MODELS))
def test_right_pieces_give_the_reference(tmp_path, model):
    pieces = [
        f"{name}={write(tmp_path, name, right(name))}" for name in pieces_of(model)
    ]
    mine, reference = lesson(tmp_path, model, *pieces), lesson(tmp_path, model)
    assert mine["losses"] == reference["losses"]
    assert mine["samples"] == reference["samples"]


def failing(name: str) -> str:
    """A right piece that fails as soon as it is called; its signature stays."""
    text, last = right(name), find(name).path[-1]
    called = f"{last}.__init__" if f"class {last}" in text else last
    return text + (
        f"\n\nimport functools\n\nlive = {called}\n\n\n@functools.wraps(live)\n"
        f"def fail(*_, **__):\n    raise OSError({name!r})\n\n\n{called} = fail\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name"), [(m, n) for m in sorted(MODELS) for n in pieces_of(m)]
)
def test_every_piece_really_takes_part(tmp_path, model, name):
    found = lesson(tmp_path, model, f"{name}={write(tmp_path, name, failing(name))}")
    assert f"{name}.py, line" in found["failed"]
    assert found["failed"].endswith(f"OSError: {name}")


@pytest.mark.slow
def test_a_piece_without_a_signature_is_named(tmp_path):
    text = changed("layer_norm", "gain: Tensor,", "weight: Tensor,")
    piece = f"layer_norm={write(tmp_path, 'layer_norm', text)}"
    assert "wrong signature" in lesson(tmp_path, "gpt", piece)["failed"]
