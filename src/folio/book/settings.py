"""book.toml: what a book is called and who wrote it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from folio.config import UserError, build

NAME = "book.toml"


@dataclass(frozen=True)
class Settings:
    """All of it may be left out but the title."""

    title: str
    subtitle: str = ""
    author: str = ""
    language: str = "en"
    identifier: str = "folio-book"  # an e-book's own name, the same in each edition
    license: str = ""
    repository: str = ""  # of the quoted code; without one, the site shows it itself
    install: str = "%pip install -q folio-llm"  # a notebook's first cell


def read(source: Path) -> Settings:
    """The settings of the book in folder `source`."""
    path = source / NAME
    if not path.is_file():
        raise UserError(f'{path}: no such file; write title = "..." into it')
    try:
        return build(Settings, tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
