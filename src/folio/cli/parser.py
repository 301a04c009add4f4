"""What the verbs' parsers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from folio.config import UserError

Verbs = Any  # argparse has no public name for what `add_subparsers` returns
Do = Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


def add_verb(verbs: Verbs, name: str, text: str, do: Do) -> Parser:
    """A verb, and the function that does it."""
    verb = verbs.add_parser(name, help=text)
    verb.set_defaults(do=do)
    return verb


def add_run(verb: argparse.ArgumentParser) -> None:
    """The run that is used."""
    verb.add_argument("run", type=Path, help="the folder of a run")


def add_sampling(verb: argparse.ArgumentParser, temperature: float) -> None:
    """How tokens are chosen."""
    verb.add_argument(
        "--temperature", type=float, default=temperature, help="0: greedy"
    )
    verb.add_argument("--top-k", type=int)
    verb.add_argument("--top-p", type=float)
    verb.add_argument("--min-p", type=float)
    verb.add_argument("--repetition-penalty", type=float, default=1.0)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--device", default="auto")


def given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Those of the flags, for a function with parameters of the same names."""
    return {name: getattr(options, name) for name in names}
