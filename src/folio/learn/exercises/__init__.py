"""The exercises, one a file. To add one is to add a file with an `EXERCISE`."""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from functools import cache
from importlib import import_module

from folio.config import UserError, nearest
from folio.learn.exercise import Exercise


def names() -> list[str]:
    """The names of all exercises; loads none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@cache
def find(name: str) -> Exercise:
    """The exercise of that name, or a UserError with the nearest one."""
    if name not in names():
        close = nearest(name, names())
        hint = (
            close
            if close.startswith("; did you mean")
            else "; `folio learn list` shows all"
        )
        raise UserError(f"no exercise {name!r}{hint}")
    return replace(import_module(f"{__name__}.{name}").EXERCISE, name=name)


def in_order(week: int | None = None, chapter: int | None = None) -> list[Exercise]:
    """The exercises of a week or a chapter, or all: in the book's order."""
    found = [
        exercise
        for exercise in map(find, names())
        if week in (None, exercise.week) and chapter in (None, exercise.chapter)
    ]
    if not found:
        where = f"week {week}" if chapter is None else f"chapter {chapter}"
        raise UserError(f"no exercises in {where}; `folio learn list` shows all")
    return sorted(found, key=lambda e: (e.week, e.chapter, e.place))
