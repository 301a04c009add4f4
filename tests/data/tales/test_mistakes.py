"""Near misses: wrong, of the right form, many, and such as the prompt suggests."""

import random
import re

import pytest

from folio.data.tales import TASKS, instruction
from folio.data.tales.grammar import article
from folio.data.tales.lexicon import DAYS, NUMBERS, PLACES, SMALL, WEATHERS
from folio.data.tales.mistakes import mistake, mistakes


def items(task, count=60):
    return [instruction(0, "train", i, (task,)) for i in range(count)]


@pytest.mark.parametrize("task", TASKS)
def test_mistakes_are_wrong_different_and_always_the_same(task):
    for item in items(task):
        found = mistakes(item)
        assert item.answer not in found
        assert len(set(found)) == len(found) > 0
        assert all(text == text.strip() != "" for text in found)
        assert mistakes(item) == found


@pytest.mark.parametrize("task", TASKS)
def test_there_are_others_than_the_careless_annotators(task):
    for item in items(task):
        assert len(set(mistakes(item)) - {item.wrong}) >= 1


@pytest.mark.parametrize("task", ["largest", "first", "last"])
def test_another_item_of_the_list(task):
    for item in items(task):
        given = re.findall(r"\d" if task == "largest" else r"\w+", item.question)
        assert set(mistakes(item)) <= set(given)
        shown = item.question.removesuffix(".").split(", ")
        if task == "largest":
            assert len(mistakes(item)) == len(given) - 1
        elif "{list}." in item.wording:  # between commas all but the first are bare
            assert set(shown[1:]) - {item.answer} <= set(mistakes(item))


def test_sorted_with_two_neighbors_swapped_or_one_missing():
    for item in items("sort"):
        right = item.answer.split()
        for text in mistakes(item):
            got = text.split()
            assert set(got) <= set(right)
            if len(got) == len(right) and text not in item.question:
                wrong = [i for i in range(len(right)) if got[i] != right[i]]
                assert len(wrong) == 2
                assert wrong[1] == wrong[0] + 1
            else:
                assert text in item.question or len(got) == len(right) - 1
        assert len(mistakes(item)) >= 2 * len(right) - 1


@pytest.mark.parametrize("task", ["reverse", "echo"])
def test_lists_in_another_order(task):
    for item in items(task):
        assert all(
            set(text.split(", ")) <= set(item.answer.split(", "))
            for text in mistakes(item)
        )
        assert (item.wrong in mistakes(item)) or task == "echo"


def test_dates_keep_their_form():
    for item in items("date"):
        year, month, day = item.answer.split("-")
        found = mistakes(item)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", text) for text in found)
        assert f"{int(year) + 1}-{month}-{day}" in found
        assert f"{year}-{month}-{day[::-1]}" in {*found, item.answer}
        assert f"{year}-{day}-{month}" in {*found, item.answer}
        for text in found:
            parts = zip(text.split("-"), item.answer.split("-"), strict=True)
            changed = sum(a != b for a, b in parts)
            assert changed == 1 or text == f"{year}-{day}-{month}"


def test_numbers_are_near():
    for item in items("length") + items("count"):
        right = NUMBERS.index(item.answer)
        off = [abs(NUMBERS.index(text) - right) for text in mistakes(item)]
        assert off[:2] == [1, 1] or right == 1
        assert set(off) <= {1, 2}


def test_weathers_and_days_are_all_the_others():
    for item in items("weather", 10):
        assert {*mistakes(item), item.answer} == set(WEATHERS)
    for item in items("day", 10):
        assert {*mistakes(item), item.answer} == set(DAYS)


@pytest.mark.parametrize(
    ("task", "others"),
    [
        ("want", {article(noun) for noun in SMALL.things}),
        ("where", {PLACES[name].the for name in SMALL.places}),
        ("who_has", {*SMALL.girls, *SMALL.boys}),
        ("gave", {*SMALL.girls, *SMALL.boys}),
        ("first_owner", {*SMALL.girls, *SMALL.boys}),
    ],
)
def test_what_the_story_tells_comes_before_the_rest_of_the_world(task, others):
    met = 0
    for item in items(task):
        found = mistakes(item)
        assert set(found) | {item.answer} >= others
        words = set(re.findall(r"\w+", item.context))
        told = [text.split()[-1] in words for text in found]
        met += told[0]
        assert not (any(told) and not told[0])
    assert met >= (60 if task != "where" else 15)  # many brief stories have one place


def test_one_is_drawn_evenly():
    item = items("weather", 1)[0]
    rng = random.Random(0)
    drawn = [mistake(item, rng) for _ in range(1000)]
    assert set(drawn) == set(mistakes(item))
    assert all(150 < drawn.count(text) < 250 for text in mistakes(item))
