"""Verbs of those who learn and teach: the exercises, and the book."""

from __future__ import annotations

import argparse
from pathlib import Path

from folio.cli.parser import Verbs, add_verb
from folio.learn.cli import add_arguments, run

FORMS = ("html", "pdf", "notebooks", "markdown", "epub")


def add_learning(verbs: Verbs) -> None:
    """learn, book."""
    text = "write the pieces yourself; they are judged, and trained"
    add_arguments(add_verb(verbs, "learn", text, run))
    book = add_verb(verbs, "book", "build the book, or begin one of your own", _book)
    book.add_argument("form", choices=(*FORMS, "new"), metavar="FORM", help=_forms())
    text = "its sources (default: book); of new: the folder to write"
    book.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help=text)
    book.add_argument("--out", type=Path, help="(default: build/NAME/FORM)")


def _forms() -> str:
    return ", ".join(FORMS) + "; new: a guide of your own"


def _book(options: argparse.Namespace) -> None:
    from folio.book.build import make, new
    from folio.config import UserError

    if options.form != "new":
        print(make(options.form, options.folder or Path("book"), options.out))
    elif options.folder is None:
        raise UserError("folio book new: name the folder to write")
    else:
        print(new(options.folder))
