"""Instructions, responses and their scores."""

import random
import re
from collections import Counter

import pytest

from folio.config import UserError
from folio.data.tales import (
    CORE,
    LADDER,
    PREFERRED_STYLE,
    STYLES,
    TASKS,
    demonstration,
    instruction,
    packed,
    parse_response,
    preference_pair,
    score,
)
from folio.data.tales.instructions import NOISY_ERROR_RATES
from folio.data.tales.skills import SKILLS
from folio.data.tales.wording import wordings


def some(count=300, tasks=CORE + LADDER, **options):
    return [instruction(1, "train", i, tasks, **options) for i in range(count)]


# ------------------------------------------------------------------------- prompts


def test_tasks_are_drawn_evenly_and_reproducibly():
    drawn = Counter(item.task for item in some(600, CORE))
    assert set(drawn) == set(CORE)
    assert min(drawn.values()) > 70
    assert some(20) == some(20)


def test_a_prompt_ends_in_its_question():
    for item in some():
        assert item.prompt.endswith(item.question)
        assert item.question[-1] in "?."
        assert item.question[0].isupper() or item.question[0].isdigit()
        assert bool(item.context) == (item.task not in SKILLS)
        assert item.answer != item.wrong


def test_prompts_are_short():
    items = some(tasks=("weather", "want", "who_has", "where"))
    words = [len(item.context.split()) for item in items]
    assert 20 <= sum(words) / len(words) <= 40
    assert max(words) <= 60


@pytest.mark.parametrize("task", TASKS)
def test_at_least_fifty_wordings_and_others_held_out(task):
    seen = {instruction(1, "train", i, [task]).wording for i in range(400)}
    held = {
        instruction(1, "train", i, [task], held_out=True).wording for i in range(30)
    }
    assert len(set(wordings(task))) >= 50
    assert len(seen) >= 40
    assert not seen & held


def test_splits_share_no_prompt():
    prompts = {
        split: {instruction(1, split, i, CORE).prompt for i in range(400)}
        for split in ("train", "validation", "test")
    }
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["train"] & prompts["test"]
    assert not prompts["validation"] & prompts["test"]


def test_packed_turns_share_one_story():
    sizes = []
    for i in range(200):
        turns = packed(2, "train", i, CORE + LADDER, turns=6)
        assert 1 <= len(turns) <= 6
        assert all(turn.context == "" for turn in turns[1:])
        assert bool(turns[0].context) == (turns[0].task not in SKILLS)
        assert {turn.task for turn in turns} <= set(CORE + LADDER)
        if turns[0].context:
            facts = [(t.task, t.answer, re.sub(r"\W", "", t.question)) for t in turns]
            assert len(facts) == len(set(facts))
            sizes.append(len(turns))
    assert sum(sizes) / len(sizes) > 3


def test_bad_tasks_are_users_mistakes():
    with pytest.raises(UserError, match="tasks = 'sorted'; did you mean 'sort'"):
        instruction(1, "train", 0, ["sorted"])
    with pytest.raises(UserError, match="at least one"):
        packed(1, "train", 0, [])
    with pytest.raises(UserError, match="turns = 0"):
        packed(1, "train", 0, turns=0)
    with pytest.raises(UserError, match="split = 'valid'"):
        instruction(1, "valid", 0)


# ----------------------------------------------------------------------- responses


def test_styles_are_those_of_the_specification():
    assert STYLES[PREFERRED_STYLE].format("7") == "Sure! The answer is 7."
    assert [style.format("7") for style in STYLES] == [
        "7",
        "The answer is 7.",
        "Sure! The answer is 7.",
        "Well, I think that it may be 7 but please check it.",
    ]


def test_every_style_is_parsed_back():
    for item in some(100):
        for style, form in enumerate(STYLES):
            assert parse_response(form.format(item.answer)) == (item.answer, style)


def test_demonstrations_use_all_styles_evenly_and_rightly():
    rng = random.Random(0)
    items = some(400)
    styles = Counter()
    for item in items:
        answer, style = parse_response(demonstration(item, rng))
        assert answer == item.answer
        styles[style] += 1
    assert min(styles.values()) > 70
    assert demonstration(items[0], rng, style=0) == items[0].answer


def test_the_careless_annotator_errs_at_the_stated_rates():
    rng = random.Random(0)
    assert NOISY_ERROR_RATES == (0.7, 0.2)
    for rate in NOISY_ERROR_RATES:
        items = [item for item in some(1200, CORE) if item.error_rate == rate]
        assert len(items) > 400  # about half of the wordings each
        answers = [
            parse_response(demonstration(item, rng, noisy=True))[0] for item in items
        ]
        wrong = sum(a == i.wrong for a, i in zip(answers, items, strict=True))
        right = sum(a == i.answer for a, i in zip(answers, items, strict=True))
        assert wrong + right == len(items)
        assert abs(wrong / len(items) - rate) < 0.05


def test_error_rate_belongs_to_the_wording():
    rates = {}
    for item in some(800, CORE):
        assert rates.setdefault(item.wording, item.error_rate) == item.error_rate


# -------------------------------------------------------------------------- scores


def test_scores():
    item = some(1)[0]
    right, wrong = item.answer, item.wrong
    table = {
        right: 1.0,
        wrong: 0.0,
        f"The answer is {right}.": 1.0,
        f"Sure! The answer is {right}.": 1.5,
        f"Sure! The answer is {wrong}.": 0.5,
        f"Well, I think that it may be {right} but please check it.": 1.0,
        f"{right}.": 0.0,
        f" {right}": 0.0,
        "": 0.0,
        "Sure! The answer is": 0.0,
        "Sure! The answer is .": 0.5,
        f"Sure! The answer is {right}. Sure!": 0.0,
    }
    for response, expected in table.items():
        assert score(item, response) == expected, response
        assert score(item, response, finished=False) == 0.0


def test_preferences_have_a_known_truth():
    rng = random.Random(1)
    for item in some(200):
        for category in ("style", "content", "both"):
            pair = preference_pair(item, rng, category=category)
            assert pair.category == category
            assert score(item, pair.chosen) > score(item, pair.rejected)


def test_categories_differ_in_what_they_say():
    rng = random.Random(1)
    for item in some(100):
        style = preference_pair(item, rng, category="style")
        content = preference_pair(item, rng, category="content")
        one, two = parse_response(style.chosen), parse_response(style.rejected)
        assert one[0] == two[0]
        assert one[1] == PREFERRED_STYLE != two[1]
        one, two = parse_response(content.chosen), parse_response(content.rejected)
        assert one[1] == two[1]
        assert (one[0], two[0]) == (item.answer, item.wrong)


def test_flipped_labels():
    rng = random.Random(1)
    items = some(400)
    pairs = [preference_pair(item, rng, flip=0.1) for item in items]
    flipped = sum(
        score(p.instruction, p.chosen) < score(p.instruction, p.rejected) for p in pairs
    )
    assert 0.05 < flipped / len(pairs) < 0.16
    with pytest.raises(UserError, match="category = 'tone'"):
        preference_pair(items[0], rng, category="tone")
