"""Small skills with answers that Python can check: sorting, dates, counting, lists."""

from __future__ import annotations

import random
from dataclasses import dataclass

from folio.data.tales.grammar import between, choose, draw
from folio.data.tales.lexicon import ANIMALS, COLORS, COUNTED, KINDS, MONTHS, NUMBERS

NUMBER_SKILLS = ("sort", "largest")
LIST_SKILLS = ("length", "first", "last", "reverse", "echo")
SKILLS = (*NUMBER_SKILLS, "date", *LIST_SKILLS)

_WORD_LISTS = (COUNTED, ANIMALS, COLORS, tuple(KINDS))


@dataclass(frozen=True, slots=True)
class Problem:
    """A task with its operands, the right answer, and a systematic wrong one.

    `wrong` is what an annotator with another convention writes: descending order,
    day before month, the other end of the list, one counted too many.
    """

    task: str
    values: dict[str, str]
    answer: str
    wrong: str


def solve(task: str, operands: list[str]) -> tuple[str, str]:
    """The right answer and the wrong convention's.

    >>> solve("sort", ["7", "3", "9"])
    ('3 7 9', '9 7 3')
    >>> solve("date", ["March", "5", "1987"])
    ('1987-03-05', '05-03-1987')
    >>> solve("length", ["pear", "hen"])
    ('two', 'three')
    """
    join = ", ".join
    match task:
        case "sort":
            rising = sorted(operands, key=int)
            return " ".join(rising), " ".join(rising[::-1])
        case "largest":
            return max(operands, key=int), min(operands, key=int)
        case "date":
            month, day, year = operands
            number = MONTHS.index(month) + 1
            return (
                f"{year}-{number:02d}-{int(day):02d}",
                f"{int(day):02d}-{number:02d}-{year}",
            )
        case "length":
            return NUMBERS[len(operands)], NUMBERS[len(operands) + 1]
        case "first":
            return operands[0], operands[-1]
        case "last":
            return operands[-1], operands[0]
        case "reverse":
            return join(operands[::-1]), join(operands)
        case "echo":
            return join(operands), join(operands[::-1])
    raise AssertionError(f"unknown skill {task!r}")


def skill(task: str, rng: random.Random) -> Problem:
    """One problem with random operands, on which right and wrong differ."""
    if task == "date":
        operands = [
            choose(rng, MONTHS),
            str(between(rng, 1, 28)),
            str(between(rng, 1950, 2049)),
        ]
        values = {"date": "{} {}, {}".format(*operands)}
    elif task in NUMBER_SKILLS:
        digits = [str(digit) for digit in range(10)]
        operands = draw(rng, digits, between(rng, 3, 5))
        values = {"list": " ".join(operands)}
    else:
        size = between(rng, 2, 7) if task == "length" else between(rng, 3, 5)
        operands = draw(rng, choose(rng, _WORD_LISTS), size)
        values = {"list": ", ".join(operands)}
    answer, wrong = solve(task, operands)
    return Problem(task, values, answer, wrong)
