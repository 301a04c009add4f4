"""SUMMARY.md, in mdBook's format, is the only table of contents.

    # Title                       (mdBook's own heading, not part of the book)
    [Preface](index.md)           no number
    # Part one                    a part
    - [First chapter](01.md)      numbered through the whole book
    ---
    [Glossary](glossary.md)       no number, after the parts

A chapter keeps its number whether those before it are written or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from folio.config import UserError

NAME = "SUMMARY.md"
_LINK = re.compile(r"^\s*(?P<dash>-\s+)?\[(?P<title>[^\]]+)\]\((?P<path>[^)]+)\)\s*$")


@dataclass(frozen=True)
class Entry:
    """One chapter: its title, its file without `.md`, its part, its number if any."""

    title: str
    document: str
    part: str
    number: int | None
    written: bool


@dataclass(frozen=True)
class Summary:
    """The table of contents; the first entry is the page where a reader starts."""

    entries: tuple[Entry, ...]

    @property
    def root(self) -> str:
        return self.entries[0].document

    @property
    def written(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.written]

    @property
    def missing(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.written]

    def number(self, document: str) -> int | None:
        """The chapter's number, or None for front matter and appendices."""
        for entry in self.entries:
            if entry.document == document:
                return entry.number
        return None

    def parts(self) -> list[tuple[str, list[Entry]]]:
        """Written entries but the first, by part and in order."""
        parts: list[tuple[str, list[Entry]]] = []
        for entry in self.written[1:]:
            if not parts or parts[-1][0] != entry.part:
                parts.append((entry.part, []))
            parts[-1][1].append(entry)
        return parts


def read(source: Path) -> Summary:
    """The table of contents of the book in folder `source`."""
    path = source / NAME
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; a book is a folder with {NAME} in it: "
            f"folio book new DIR writes one"
        )
    return parse(path.read_text(encoding="utf-8"), source, path)


def parse(text: str, source: Path, path: Path = Path(NAME)) -> Summary:
    """The same from text; `source` is where chapters are looked for."""
    entries: list[Entry] = []
    part, number = "", 0
    for count, line in enumerate(text.splitlines(), 1):
        if line.startswith("# "):
            part = line[2:].strip() if entries else ""
        elif re.fullmatch(r"-{3,}", line.strip()):
            part = ""
        elif found := _LINK.match(line):
            document = found["path"].removesuffix(".md")
            if any(entry.document == document for entry in entries):
                raise UserError(f"{path}:{count}: {found['path']} is listed twice")
            number += bool(found["dash"])
            own = number if found["dash"] else None
            there = (source / found["path"]).is_file()
            entries.append(Entry(found["title"], document, part, own, there))
        elif line.strip():
            raise UserError(
                f"{path}:{count}: {line.strip()!r} is no entry; "
                "write '- [Title](file.md)' for a chapter or '# Title' for a part"
            )
    if not entries or not entries[0].written:
        raise UserError(f"{path}: the first entry must be a page that exists")
    return Summary(tuple(entries))


def toctrees(summary: Summary) -> str:
    """The parts as what Sphinx takes for a table of contents."""
    trees = []
    for part, entries in summary.parts():
        options = [":maxdepth: 1"]
        options += [f":caption: {part}"] if part else []
        options += [":numbered: 2"] if entries[0].number else []
        names = [entry.document for entry in entries]
        trees.append("\n".join(["```{toctree}", *options, "", *names, "```"]))
    if note := missing_note(summary):  # a note for the site, not for paper
        trees.append(f"```{{only}} builder_html\n*{note}*\n```")
    return "\n\n".join(trees)


def missing_note(summary: Summary) -> str:
    """Which chapters are left out, in a line; empty when none is.

    >>> entry = Entry("One", "b", "", 1, written=False)
    >>> missing_note(Summary((entry,)))
    'Not written yet, and left out: chapter 1.'
    """
    numbers = [entry.number for entry in summary.missing if entry.number]
    names = [entry.title for entry in summary.missing if not entry.number]
    if numbers:
        names.append(f"chapter{'s' * (len(numbers) > 1)} {ranges(numbers)}")
    return f"Not written yet, and left out: {'; '.join(names)}." if names else ""


def ranges(numbers: list[int]) -> str:
    """Numbers in order, runs of them as one.

    >>> ranges([1, 2, 4, 5, 6, 9])
    '1–2, 4–6, 9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if not runs or number != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(number)
    ends = [(str(run[0]), str(run[-1])) for run in runs]
    return ", ".join(low if low == high else f"{low}–{high}" for low, high in ends)
