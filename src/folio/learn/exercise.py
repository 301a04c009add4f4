"""What an exercise is: a symbol of the package, a task, hints, and checks that judge.

A check is a function that takes what the learner wrote. It returns if a property holds,
else raises `Broken`; its name says the property, its message what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any], None]


class Broken(AssertionError):
    """A property that a learner's code lacks. The message is shown as it stands."""


@dataclass(frozen=True)
class Wrong:
    """A wrong answer that people really give, and what they are told.

    It is the live source with one piece of text replaced, so it can't go stale.
    """

    idea: str  # the misconception, in words
    old: str
    new: str
    told: str  # a part of the message

    def source(self, live: str) -> str:
        """The wrong answer, from the right one. ValueError if `old` is not there."""
        if live.count(self.old) != 1:
            raise ValueError(
                f"{self.idea}: {self.old!r} is there {live.count(self.old)}x"
            )
        return live.replace(self.old, self.new)


@dataclass(frozen=True)
class Exercise:
    """One symbol to be written anew. `symbol` is "module:qualified.name"."""

    title: str
    chapter: int  # of the book
    week: int  # of the four-week plan
    symbol: str
    task: str  # what to do, in a few lines; never how
    hints: tuple[str, ...]  # from a nudge to nearly the answer
    checks: tuple[Check, ...]  # in the order that teaches
    wrong: tuple[Wrong, ...]
    given: tuple[str, ...] = ()  # names of the symbol's module that may be used
    place: int = 1  # among those of its chapter
    name: str = ""  # that of its file

    @property
    def module(self) -> str:
        """The module of the package that has the symbol."""
        return self.symbol.partition(":")[0]

    @property
    def path(self) -> list[str]:
        """The names that lead from the module to the symbol: ["Attention", "split"]."""
        return self.symbol.partition(":")[2].split(".")


def spoken(check: Check) -> str:
    """The property that a check is named after.

    >>> def rows_sum_to_1(weights): ...
    >>> spoken(rows_sum_to_1)
    'rows sum to 1'
    """
    return check.__name__.replace("_", " ")
