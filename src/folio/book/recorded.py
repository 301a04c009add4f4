"""Numbers that were measured, found in the files that recorded them.

`bench/engine:rows.0.tokens_per_s|.0f` is a file (`bench/results/engine.json`), a way
into it, and a format. So no number about Folio is typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class RecordError(ValueError):
    """What was asked for is not recorded; the message says what is."""


def folder_of(name: str, source: Path) -> Path:
    """Where results of `name` lie: "bench/engine" beside the book, others in it.

    >>> folder_of("bench/engine", Path("book")).as_posix()
    'bench/results/engine'
    >>> folder_of("attention", Path("book")).as_posix()
    'book/results/attention'
    """
    if name.startswith("bench/"):
        return source.parent / "bench" / "results" / name.removeprefix("bench/")
    return source / "results" / name


def load(name: str, source: Path) -> tuple[Path, Any]:
    """A record's file and what is in it."""
    base = folder_of(name, source)
    path = base.with_name(base.name + ".json")
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.json"))
        raise RecordError(f"no record {name!r}; there: {', '.join(known) or 'none'}")
    return path, json.loads(path.read_text(encoding="utf-8"))


def number(wanted: str, source: Path) -> tuple[Path, str]:
    """The file and the number itself, formatted. Raises RecordError."""
    where, _, form = wanted.partition("|")
    name, colon, way = where.partition(":")
    if not colon:
        raise RecordError(f"{wanted!r}: write FILE:KEY.KEY or FILE:KEY.KEY|FORMAT")
    path, value = load(name, source)
    for step in way.split("."):
        value = _step(value, step, wanted)
    try:
        return path, format(value, form)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{wanted!r}: {error}") from None


def _step(value: Any, step: str, wanted: str) -> Any:
    if isinstance(value, list) and step.isdigit() and int(step) < len(value):
        return value[int(step)]
    if isinstance(value, list) and "=" in step:  # the row whose name is ...
        key, _, text = step.partition("=")
        for row in value:
            if str(row.get(key)) == text:
                return row
    if isinstance(value, dict) and step in value:
        return value[step]
    known = list(value) if isinstance(value, dict) else f"{len(value)} rows"
    raise RecordError(f"{wanted!r}: no {step!r} there; known: {known}")
