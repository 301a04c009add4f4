"""The flags of `folio learn`, and which function does what. Loads nothing heavy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FOLDER = Path("exercises")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """list, start, check, hint, watch, diff, reset and train, with their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text)
        action.add_argument("--folder", type=Path, default=FOLDER, help="your answers")
        return action

    many = [
        add("list", "all exercises, and which you have passed"),
        add("start", "write a stub to be filled in: of NAME, or of the next one"),
        add("check", "judge your answers: NAME, or all that are started"),
    ]
    for action in many:
        only = action.add_mutually_exclusive_group()
        only.add_argument("--week", type=int, help="those of one week, 1 to 4")
        only.add_argument("--chapter", type=int, help="those of one chapter")
    for action in many[1:]:
        action.add_argument("names", nargs="*", metavar="NAME")
    one = {
        "hint": add("hint", "the next hint"),
        "watch": add("watch", "check whenever you save"),
        "diff": add("diff", "your code beside the package's, once it has passed"),
        "reset": add("reset", "begin anew; your answer is kept beside"),
    }
    for action in one.values():
        action.add_argument("name", metavar="NAME")
    one["diff"].add_argument("--anyway", action="store_true", help="before it passes")
    for action in (many[2], one["watch"]):
        action.add_argument(
            "--seconds", type=float, default=20.0, help="that your code may take"
        )
    train = add("train", "train a small model of your pieces, beside the reference")
    train.add_argument("--model", default="gpt", help="gpt or llama")
    train.add_argument("--steps", type=int, default=500)


def run(options: argparse.Namespace) -> None:
    """Do what was asked; exits with 1 if an answer doesn't pass.

    UserError also for a file that can't be read, moved or asked for.
    """
    from folio.config import UserError

    try:
        _do(options)
    except OSError as error:
        if error.filename is None:  # not about a file
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from None


def _do(options: argparse.Namespace) -> None:
    from folio.learn import commands

    folder, action = options.folder, options.action
    if action == "list":
        commands.list_exercises(folder, options.week, options.chapter)
    elif action == "start":
        commands.start(options.names, folder, options.week, options.chapter)
    elif action == "check":
        chosen = (options.names, folder, options.week, options.chapter)
        if not commands.check(*chosen, seconds=options.seconds):
            sys.exit(1)
    elif action == "watch":
        commands.watch(options.name, folder, options.seconds)
    elif action == "diff":
        commands.diff(options.name, folder, options.anyway)
    elif action == "train":
        from folio.learn.train import train

        train(folder, options.model, options.steps)
    else:
        getattr(commands, action)(options.name, folder)
