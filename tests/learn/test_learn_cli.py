"""The flags: each action reaches its function with what was asked."""

import argparse
from pathlib import Path

import pytest

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
