"""Verifiers: what a response is worth, where that can be known.

The GSM8K form of a solution ends with a line `#### 42` (Cobbe et al. 2021).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal

from folio.config import UserError
from folio.data.records import FINAL_ANSWER, Prompt
from folio.data.tales import Instruction, score

# (prompt, response, finished) -> reward; finished: it ended with its end of turn.
Verifier = Callable[[Prompt, str, bool], float]

_NUMBER = re.compile(r"(?:(?<!\w)[-+])?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)")


def read_number(text: str) -> Decimal | None:
    """The number that a text is, with or without commas, "$" or "%".

    >>> read_number("$1,234.50."), read_number("about 7")
    (Decimal('1234.50'), None)
    """
    bare = text.strip().rstrip(".").strip("$€£%").strip()
    bare = re.sub(r"^([-+])\s*[$€£]\s*", r"\1", bare)
    return Decimal(bare.replace(",", "")) if _NUMBER.fullmatch(bare) else None


def marked_number(text: str) -> Decimal | None:
    """GSM8K's: the number after the last `####`; None if there isn't one.

    >>> marked_number("3 * 4 = 12, so\\n#### 12"), marked_number("It is 12.")
    (Decimal('12'), None)
    """
    _, mark, after = text.rpartition(FINAL_ANSWER)
    return read_number(after.strip().partition("\n")[0]) if mark else None


def final_number(text: str) -> Decimal | None:
    """The marked number, or else the last one that the text mentions.

    >>> final_number("2 and 3 make 5."), final_number("none")
    (Decimal('5'), None)
    """
    marked = marked_number(text)
    if marked is not None:
        return marked
    found = [match for match in _NUMBER.findall(text) if match]
    return Decimal(found[-1].replace(",", "")) if found else None


def exact_answer(prompt: Prompt, response: str, finished: bool) -> float:
    """1 if the response is the answer and nothing else, and ended by itself."""
    return float(finished and response.strip() == prompt.answer.strip())


def number_answer(prompt: Prompt, response: str, finished: bool) -> float:
    """1 if the number after `####` equals the answer: 72, 72.0 and 72.00 are one.

    Raises UserError if the known answer is no number.
    """
    wanted = read_number(prompt.answer)
    if wanted is None:
        raise UserError(f"answer = {prompt.answer!r}: not a number")
    return float(finished and marked_number(response) == wanted)


def tales_score(prompt: Prompt, response: str, finished: bool) -> float:
    """The embedded world's gold reward: right 1, preferred style 0.5."""
    if not isinstance(prompt.item, Instruction):
        raise UserError("this prompt is not of the embedded world: it has no truth")
    return score(prompt.item, response, finished=finished)


def verify(verifier: Verifier, prompt: Prompt, response: str, finished: bool) -> float:
    """What the verifier says, if it is a number; else a UserError naming the prompt."""
    name = getattr(verifier, "__name__", type(verifier).__name__)
    where = f"{prompt.where}: " if prompt.where else ""
    about = f"{where}verifier {name} on the prompt {_short(prompt.text)}"
    try:
        value = verifier(prompt, response, finished)
    except Exception as error:
        raise UserError(
            f"{about} raised {type(error).__name__}: {error}; the response was"
            f" {_short(response)}"
        ) from error
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"{about} returned {value!r}, not a finite number; the response was"
            f" {_short(response)}"
        )
    return number


def _short(text: str, limit: int = 120) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
