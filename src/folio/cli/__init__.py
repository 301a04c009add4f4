"""The command line: one verb per stage. Nothing heavy is imported before it is needed.

A module here adds some verbs, each with the function that does it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from folio import __version__
from folio.cli.exchange import add_exchange
from folio.cli.judging import add_judging
from folio.cli.learning import add_learning
from folio.cli.parser import Parser
from folio.cli.serving import add_serving
from folio.cli.training import add_planning, add_training, split_overrides
from folio.cli.writing import add_writing
from folio.config import UserError

EXIT_USER, EXIT_INTERRUPTED = 2, 130


def build_parser() -> Parser:
    """Every verb with its arguments."""
    parser = Parser(
        prog="folio",
        description="Build a large language model from scratch.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"folio {__version__}")
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=Parser
    )
    for add in (add_training, add_planning, add_writing, add_judging):
        add(verbs)
    add_serving(verbs)
    add_learning(verbs)
    add_exchange(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exit with 0, 2 for the user's mistakes, 130 if interrupted."""
    try:
        words, overrides = split_overrides(arguments or sys.argv[1:])
        options = build_parser().parse_args(words)
        options.overrides = overrides
        options.do(options)
    except UserError as error:
        _complain(str(error), error)
        sys.exit(EXIT_USER)
    except KeyboardInterrupt as stop:
        _complain(str(stop) or "interrupted", stop)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # somebody piped us into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str, reason: BaseException) -> None:
    """One line on standard error; of many processes that say the same, by one."""
    if "RANK" in os.environ:
        from folio.runtime import SaidElsewhereError, first_to_say

        if isinstance(reason, SaidElsewhereError) or not first_to_say(text):
            return
    print(f"folio: {text}", file=sys.stderr)
