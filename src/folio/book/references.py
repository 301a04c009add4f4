"""What the book cites: a table per work in references.toml, all of it complete."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase

from folio.config import UserError

NAME = "references.toml"
NEEDED = ("authors", "title", "year", "venue")


@dataclass(frozen=True)
class Work:
    """A paper, a book or a page. One of `arxiv`, `doi`, `url` says where it is."""

    key: str
    authors: tuple[str, ...]  # "Family, Given"
    title: str
    year: int
    venue: str
    arxiv: str = ""
    doi: str = ""
    url: str = ""
    letter: str = ""  # behind the year, of works that would else be named alike

    @property
    def when(self) -> str:
        return f"{self.year}{self.letter}"

    @property
    def link(self) -> str:
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else self.url

    @property
    def families(self) -> str:
        """The authors as the text names them: "Vaswani et al."."""
        families = [name.split(",")[0] for name in self.authors]
        return f"{families[0]} et al." if len(families) > 2 else " and ".join(families)

    @property
    def short(self) -> str:
        """Beside a statement: "(Vaswani et al. 2017)"."""
        return f"({self.families} {self.when})"

    @property
    def named(self) -> str:
        """In a sentence: "Vaswani et al. (2017)"."""
        return f"{self.families} ({self.when})"

    @property
    def people(self) -> str:
        """All authors, each with the given name first."""
        names = [" ".join(reversed(name.split(", "))) for name in self.authors]
        if len(names) > 6:
            return ", ".join([*names[:6], "and others"])
        if len(names) < 3:
            return " and ".join(names)
        return ", ".join(names[:-1]) + ", and " + names[-1]


def read(source: Path) -> dict[str, Work]:
    """All works by key; no file is an empty list."""
    path = source / NAME
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    return _told_apart({key: _work(key, table, path) for key, table in tables.items()})


def _told_apart(works: dict[str, Work]) -> dict[str, Work]:
    """The same, with a letter behind the year where two would be named alike."""
    alike: dict[str, list[Work]] = defaultdict(list)
    for work in sorted(works.values(), key=lambda work: work.title.casefold()):
        alike[work.short].append(work)
    letters = {
        work.key: letter
        for group in alike.values()
        if len(group) > 1
        for work, letter in zip(group, ascii_lowercase, strict=False)
    }
    return {
        key: replace(work, letter=letters.get(key, "")) for key, work in works.items()
    }


def _work(key: str, table: dict, path: Path) -> Work:
    lacking = [name for name in NEEDED if not table.get(name)]
    if not any(table.get(name) for name in ("arxiv", "doi", "url")):
        lacking.append("arxiv, doi or url")
    if lacking:
        raise UserError(f"{path}: [{key}] lacks {', '.join(lacking)}")
    try:
        return Work(key, **table | {"authors": tuple(table["authors"])})
    except TypeError as error:
        raise UserError(f"{path}: [{key}]: {error}") from None
