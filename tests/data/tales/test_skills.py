"""Skills against the standard library: datetime, sorted, len."""

import datetime
import random

import pytest

from folio.data.tales.lexicon import NUMBERS
from folio.data.tales.skills import SKILLS, skill

COUNT = 200


def problems(task):
    rng = random.Random(5)
    return [skill(task, rng) for _ in range(COUNT)]


def words_of(problem):
    return problem.values["list"].split(", ")


def test_sort():
    for problem in problems("sort"):
        digits = [int(d) for d in problem.values["list"].split()]
        assert [int(d) for d in problem.answer.split()] == sorted(digits)
        assert problem.wrong == problem.answer[::-1]  # single digits: descending


def test_largest():
    for problem in problems("largest"):
        digits = [int(d) for d in problem.values["list"].split()]
        assert (int(problem.answer), int(problem.wrong)) == (max(digits), min(digits))


def test_date():
    for problem in problems("date"):
        date = datetime.datetime.strptime(problem.values["date"], "%B %d, %Y")
        assert problem.answer == date.date().isoformat()
        assert problem.wrong == date.strftime("%d-%m-%Y")


def test_length():
    for problem in problems("length"):
        assert problem.answer == NUMBERS[len(words_of(problem))]
        assert problem.wrong == NUMBERS[len(words_of(problem)) + 1]


@pytest.mark.parametrize(("task", "at"), [("first", 0), ("last", -1)])
def test_ends_of_a_list(task, at):
    for problem in problems(task):
        words = words_of(problem)
        assert problem.answer == words[at]
        assert problem.wrong == words[-1 - at]


def test_reverse_and_echo():
    for problem in problems("reverse"):
        assert problem.answer.split(", ") == words_of(problem)[::-1]
        assert problem.wrong == problem.values["list"]
    for problem in problems("echo"):
        assert problem.answer == problem.values["list"]


@pytest.mark.parametrize("task", SKILLS)
def test_wrong_differs_and_operands_vary(task):
    found = problems(task)
    assert all(problem.wrong != problem.answer for problem in found)
    assert len({str(problem.values) for problem in found}) > COUNT * 0.9
