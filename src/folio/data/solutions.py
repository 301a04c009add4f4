"""Judged solutions as preferences: what is right is better than what is wrong.

The form of OpenAI's model solutions to GSM8K: a question with its `ground_truth`, and
under the name of each model a table with `solution` and `is_correct`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

from folio.config import UserError
from folio.data.record_files import Record
from folio.data.records import Pair


def is_judged(record: Record) -> bool:
    """Does the record hold a question with solutions that somebody has judged?"""
    return "question" in record.fields and bool(_solutions(record))


def solution_pairs(record: Record) -> list[Pair]:
    """Each wrong solution below a right one: a model's if there is any, or the truth.

    Where all are right, or all alike, there is nothing to prefer: no pair.

    >>> fields = {"question": "2 + 2?", "ground_truth": "4!"}
    >>> fields["a"] = {"solution": "4", "is_correct": True}
    >>> fields["b"] = {"solution": "5", "is_correct": False}
    >>> [(pair.chosen, pair.rejected) for pair in solution_pairs(Record("", fields))]
    [('4', '5')]
    """
    question, truth = record.fields["question"], record.fields.get("ground_truth")
    right: dict[str, None] = {}
    wrong: dict[str, None] = {}
    for name, found in _solutions(record).items():
        text, judged = found["solution"], found["is_correct"]
        if not isinstance(text, str) or not isinstance(judged, bool):
            raise UserError(
                f"{record.where}: field {name!r}: 'solution' must be text, and "
                "'is_correct' true or false"
            )
        (right if judged else wrong)[text] = None
    if not right and isinstance(truth, str):
        right[truth] = None
    prompt = ({"role": "user", "content": question},)
    return [
        Pair(prompt, chosen, rejected, category="solution", where=record.where)
        for rejected, chosen in zip(wrong, cycle(right), strict=False)
        if chosen != rejected
    ]


def _solutions(record: Record) -> dict[str, Mapping]:
    return {
        name: value
        for name, value in record.fields.items()
        if isinstance(value, Mapping) and {"solution", "is_correct"} <= set(value)
    }
