"""The flags: each action reaches its function with what was asked."""

import argparse
from pathlib import Path

import pytest

from folio.config import UserError
from folio.learn import commands
from folio.learn import train as training
from folio.learn.cli import add_arguments, run


def asked(line: str, monkeypatch, result=None) -> tuple:
    """The function that a command line calls, and with what."""
    calls = []

    def noting(name):
        return lambda *args, **options: calls.append((name, args, options)) or result

    for name in ("list_exercises", "start", "check", "hint", "watch", "diff", "reset"):
        monkeypatch.setattr(commands, name, noting(name))
    monkeypatch.setattr(training, "train", noting("train"))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args(line.split()))
    return calls[0]


USUAL = Path("exercises")


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("list --week 2", ("list_exercises", (USUAL, 2, None), {})),
        ("list --chapter 5", ("list_exercises", (USUAL, None, 5), {})),
        ("start", ("start", ([], USUAL, None, None), {})),
        ("start a b --folder x", ("start", (["a", "b"], Path("x"), None, None), {})),
        ("hint a", ("hint", ("a", USUAL), {})),
        ("watch a --seconds 3", ("watch", ("a", USUAL, 3.0), {})),
        ("diff a --anyway", ("diff", ("a", USUAL, True), {})),
        ("reset a", ("reset", ("a", USUAL), {})),
        ("train --model llama", ("train", (USUAL, "llama", 500), {})),
    ],
)
def test_an_action_calls_its_function(monkeypatch, line, call):
    assert asked(line, monkeypatch) == call


def test_check_ends_with_1_if_something_fails(monkeypatch):
    name, args, options = asked("check a --seconds 5", monkeypatch, result=True)
    assert (name, args) == ("check", (["a"], USUAL, None, None))
    assert options == {"seconds": 5.0}
    with pytest.raises(SystemExit) as stop:
        asked("check a", monkeypatch, result=False)
    assert stop.value.code == 1


@pytest.mark.parametrize("line", ["list", "start", "check", "hint softmax", "train"])
def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, monkeypatch, line):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args([*line.split(), "--folder", str(tmp_path)])

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(UserError) as error:
        run(options)
    assert str(error.value).startswith(str(tmp_path))
    assert str(error.value).endswith(": Permission denied")


def test_an_answer_that_may_not_be_moved_stays(tmp_path, monkeypatch):
    file = tmp_path / "softmax.py"
    file.write_text("my work")
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def refuse(path, _):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match=r"softmax\.py: Permission denied"):
        run(parser.parse_args(["reset", "softmax", "--folder", str(tmp_path)]))
    assert file.read_text() == "my work"
