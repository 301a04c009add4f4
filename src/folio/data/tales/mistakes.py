"""Near misses: the wrong answers that somebody who almost knows how would give.

The careless annotator's `wrong` is one mistake, always the same. Whoever learns what
is right from that one alone learns a convention, and not what is true.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from folio.data.tales.grammar import article, choose
from folio.data.tales.instructions import Instruction
from folio.data.tales.lexicon import (
    BOYS,
    DAYS,
    GIRLS,
    KINDS,
    NUMBERS,
    PLACES,
    SMALL,
    WEATHERS,
)


def mistake(item: Instruction, rng: random.Random) -> str:
    """One of the near misses, all equally likely."""
    return choose(rng, mistakes(item))


def mistakes(item: Instruction) -> tuple[str, ...]:
    """Different wrong answers, at least one, always in the same order.

    What an answer is mistaken for stands in the question (another item of a list), in
    the story (another name, thing or place), or next to it (another number, two digits
    swapped). A brief story has two of a kind, one of which is right, so names, things
    and places of other stories follow: who reads carelessly takes those, too.

    >>> item = Instruction("sort", "", "Sort 7 3 9.", "3 7 9", "9 7 3", "Sort {list}.")
    >>> mistakes(item)
    ('7 3 9', '3 9 7', '7 9', '3 9', '3 7')
    """
    found = dict.fromkeys(_near_misses(item))
    found.pop(item.answer, None)
    return tuple(found)


def _near_misses(item: Instruction) -> Iterable[str]:
    """What may be mistaken for the answer; some twice, the answer perhaps among it."""
    match item.task:
        case "sort":
            return map(" ".join, _disordered(_operands(item, " "), item.answer.split()))
        case "reverse" | "echo":
            given, right = _operands(item, ", "), item.answer.split(", ")
            return map(", ".join, _disordered(given, right))
        case "largest":
            return _operands(item, " ")
        case "first" | "last":
            return _operands(item, ", ")
        case "date":
            return _other_dates(item.answer)
        case "length" | "count":
            return _neighbors(item.answer)
        case "weather":
            return WEATHERS
        case "day":
            return DAYS
        case "want":
            told = [word for word in _words(item.context) if word in KINDS]
            return [article(noun) for noun in (*told, *SMALL.things)]
        case "where":
            told = [word for word in _words(item.context) if word in PLACES]
            return [PLACES[name].the for name in (*told, *SMALL.places)]
        case "who_has" | "gave" | "first_owner":
            told = [word for word in _words(item.context) if word in (*GIRLS, *BOYS)]
            return (*told, *SMALL.girls, *SMALL.boys)
    raise AssertionError(f"unknown task {item.task!r}")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _operands(item: Instruction, separator: str) -> list[str]:
    """The list that a question gives, read back by way of its wording."""
    before, after = item.wording.split("{list}")
    stop = len(item.question) - len(after)
    return item.question[len(before) : stop].split(separator)


def _disordered(given: Sequence[str], right: Sequence[str]) -> list[list[str]]:
    """A list as it was given, with two neighbors swapped, and with one item missing.

    >>> _disordered("ab", "ba")
    [['a', 'b'], ['a', 'b'], ['a'], ['b']]
    """
    swapped = [_swapped(right, place) for place in range(len(right) - 1)]
    missing = [[*right[:place], *right[place + 1 :]] for place in range(len(right))]
    return [list(given), *swapped, *missing]


def _swapped(items: Sequence[str], place: int) -> list[str]:
    return [*items[:place], items[place + 1], items[place], *items[place + 2 :]]


def _neighbors(number: str) -> list[str]:
    """Numbers in words that are one or two off, from one to twelve.

    >>> _neighbors("two")
    ['one', 'three', 'four']
    """
    value = NUMBERS.index(number)
    near = (value - 1, value + 1, value - 2, value + 2)
    return [NUMBERS[other] for other in near if 0 < other < len(NUMBERS)]


def _other_dates(date: str) -> list[str]:
    """Month and day exchanged, two digits swapped, or the unit before or after.

    >>> _other_dates("1987-03-05")[:4]
    ['1987-05-03', '9187-03-05', '1897-03-05', '1978-03-05']
    """
    parts = year, month, day = date.split("-")
    found = [f"{year}-{day}-{month}"]
    for index, part in enumerate(parts):
        others = ["".join(_swapped(part, place)) for place in range(len(part) - 1)]
        others += [f"{int(part) + step:0{len(part)}d}" for step in (-1, 1)]
        found += ["-".join([*parts[:index], o, *parts[index + 1 :]]) for o in others]
    return found
