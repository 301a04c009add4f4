"""A language model as the judge of answers: two side by side, or one by itself.

Judges like what they read first, and what is long (Zheng et al. 2023). So each pair is
shown in both orders, and how often the place decided is part of the result. A verdict
is read strictly; one that can't be read is counted as such, and never as a loss.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from folio.config import UserError
from folio.data.records import Messages
from folio.evals.answers import Measure
from folio.evals.chat_api import ChatApi, ask_all
from folio.evals.table import aligned, shown

PAIR = """\
You compare two answers to the same request. Judge what they say: is it right, does it \
do what was asked, is it clear? Neither length nor the order of the answers counts.

[Request]
{question}
[End of the request]

[Answer A]
{answer_a}
[End of answer A]

[Answer B]
{answer_b}
[End of answer B]

Give your reasons in a few sentences. Then write one last line that has nothing but \
your verdict: [[A]] if answer A is better, [[B]] if answer B is better, or [[tie]].
"""
SINGLE = """\
You grade an answer to a request. Judge what it says: is it right, does it do what was \
asked, is it clear? Length does not count.

[Request]
{question}
[End of the request]

[Answer]
{answer}
[End of the answer]

Give your reasons in a few sentences. Then write one last line that has nothing but \
your grade, a whole number from 1 (useless) to 10 (perfect), such as: [[5]]
"""
LOWEST, HIGHEST = 1, 10
NAMES = ("question", "answer", "answer_a", "answer_b", "reference")

Say = Callable[[str], None]
Verdict = Literal["A", "B", "tie"]
Outcome = Literal["win", "loss", "tie", "inconsistent", "unreadable", "unanswered"]
OUTCOMES: tuple[Outcome, ...] = (
    *("win", "tie", "inconsistent", "loss"),
    *("unreadable", "unanswered"),
)
WORTH = {"win": 1.0, "tie": 0.5, "inconsistent": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class Case:
    """What was asked, what was answered, by us and by another, and what is right."""

    messages: Messages
    answer: str
    other: str = ""
    reference: str = ""
    where: str = ""


# --------------------------------------------------------------------------- asking


def check_template(template: str, wanted: Iterable[str]) -> None:
    """Raise a UserError for a template that leaves out what is to be judged."""
    for name in wanted:
        if f"{{{name}}}" not in template:
            raise UserError(
                f"template: has no {{{name}}}, so the judge wouldn't see it"
            )


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its names filled in, once: what is filled in stays as it is.

    >>> filled("{question} {answer} {x}", {"question": "{answer}?", "answer": "Yes."})
    '{answer}? Yes. {x}'
    """
    names = "|".join(NAMES)
    return re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], template)


def told(messages: Messages) -> str:
    """A request as a judge reads it; of several turns, with who says what.

    >>> told(({"role": "user", "content": "Who?"},))
    'Who?'
    """
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role'].title()}: {m['content']}" for m in messages)


def _prompt(template: str, case: Case, **answers: str) -> list[Mapping[str, str]]:
    if "{reference}" in template and not case.reference:
        raise UserError(
            f"{case.where or 'prompt'}: has no known answer for the template's "
            "{reference}"
        )
    missing = dict.fromkeys(NAMES, "")
    values = {"question": told(case.messages), "reference": case.reference}
    text = filled(template, missing | values | answers)
    return [{"role": "user", "content": text}]


# -------------------------------------------------------------------------- reading


def _mark(text: str) -> str | None:
    """The one [[mark]] in the last line; None if there is none, or more."""
    lines = text.strip().splitlines()
    marks = re.findall(r"\[\[(.*?)\]\]", lines[-1]) if lines else []
    return marks[0] if len(marks) == 1 else None


def read_verdict(text: str) -> Verdict | None:
    """
    >>> read_verdict("A is wrong. [[A]] would be unfair.\\n[[B]]")
    'B'
    >>> read_verdict("[[B]] or [[A]]"), read_verdict("B"), read_verdict("[[b]]")
    (None, None, None)
    """
    mark = _mark(text)
    return mark if mark in ("A", "B", "tie") else None


def read_grade(text: str) -> int | None:
    """
    >>> read_grade("Good.\\nGrade: [[7]]"), read_grade("[[11]]"), read_grade("[[7/10]]")
    (7, None, None)
    """
    mark = _mark(text)
    if mark is None or not re.fullmatch(r"\d{1,2}", mark, re.ASCII):
        return None
    return int(mark) if LOWEST <= int(mark) <= HIGHEST else None


# -------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Judged:
    """A case, what the judge wrote about it (both orders of a pair), and the upshot."""

    case: Case
    texts: tuple[str | None, ...]
    outcome: Outcome | int | None  # of a pair, or a grade (None: none could be read)


def judge_pairs(
    api: ChatApi,
    cases: Sequence[Case],
    template: str = PAIR,
    at_once: int = 8,
    say: Say = print,
) -> list[Judged]:
    """Which of two answers is better, asked in both orders.

    Of answers that are equal nobody needs to be asked: they tie.
    """
    check_template(template, ("question", "answer_a", "answer_b"))
    asked = [case for case in cases if case.answer != case.other]
    prompts = [
        _prompt(template, case, answer_a=a, answer_b=b)
        for case in asked
        for a, b in ((case.answer, case.other), (case.other, case.answer))
    ]
    texts = iter(ask_all(api, prompts, at_once, say))
    return [
        Judged(case, (), "tie")
        if case.answer == case.other
        else _judged(case, next(texts), next(texts))
        for case in cases
    ]


def _judged(case: Case, first: str | None, second: str | None) -> Judged:
    return Judged(case, (first, second), outcome_of(first, second))


def outcome_of(first: str | None, second: str | None) -> Outcome:
    """Both orders together: ours is A in the first text and B in the second.

    A win takes both; who wins once and ties once has tied; and where the same place
    wins twice, the place has won.

    >>> outcome_of("[[A]]", "[[B]]"), outcome_of("[[A]]", "[[A]]")
    ('win', 'inconsistent')
    >>> outcome_of("[[A]]", "[[tie]]"), outcome_of("[[A]]", "No."), outcome_of("", None)
    ('tie', 'unreadable', 'unanswered')
    """
    if first is None or second is None:
        return "unanswered"
    match read_verdict(first), read_verdict(second):
        case (None, _) | (_, None):
            return "unreadable"
        case ("A", "B"):
            return "win"
        case ("B", "A"):
            return "loss"
        case ("A", "A") | ("B", "B"):
            return "inconsistent"
        case _:
            return "tie"


def judge_singles(
    api: ChatApi,
    cases: Sequence[Case],
    template: str = SINGLE,
    at_once: int = 8,
    say: Say = print,
) -> list[Judged]:
    """How good each answer is, from 1 to 10."""
    check_template(template, ("question", "answer"))
    prompts = [_prompt(template, case, answer=case.answer) for case in cases]
    texts = ask_all(api, prompts, at_once, say)
    return [
        Judged(case, (text,), None if text is None else read_grade(text))
        for case, text in zip(cases, texts, strict=True)
    ]


# ------------------------------------------------------------------------- reporting


@dataclass(frozen=True)
class PairReport:
    """How often we won; ties, and pairs that the place decided, count one half.

    `first` is how often a decided verdict went to answer A: 0.5 without a bias.
    """

    outcomes: dict[str, int]
    wins: Measure | None
    first: Measure | None

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> PairReport:
        counts = Counter(str(one.outcome) for one in judged)
        values = [WORTH[one.outcome] for one in judged if one.outcome in WORTH]
        read = (read_verdict(text) for one in judged for text in one.texts if text)
        places = [float(verdict == "A") for verdict in read if verdict in ("A", "B")]
        return cls(
            {outcome: counts[outcome] for outcome in OUTCOMES},
            Measure.of(values) if values else None,
            Measure.of(places) if places else None,
        )

    def table(self) -> str:
        """For the terminal."""
        rows = [[name, str(count)] for name, count in self.outcomes.items()]
        rows += [["win rate", shown(self.wins)], ["A preferred", shown(self.first)]]
        return aligned(rows)


@dataclass(frozen=True)
class GradeReport:
    """The mean grade of those that could be read, and how many couldn't."""

    grades: Measure | None
    unreadable: int
    unanswered: int

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> GradeReport:
        read = [float(one.outcome) for one in judged if one.outcome is not None]
        unanswered = sum(one.texts == (None,) for one in judged)
        unreadable = len(judged) - len(read) - unanswered
        return cls(Measure.of(read) if read else None, unreadable, unanswered)

    def table(self) -> str:
        """For the terminal."""
        counts = {"unreadable": self.unreadable, "unanswered": self.unanswered}
        rows = [["mean grade", shown(self.grades)]]
        return aligned(rows + [[name, str(count)] for name, count in counts.items()])
