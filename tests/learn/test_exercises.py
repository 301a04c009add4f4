"""Every exercise: a stub that fails kindly, live source that passes, and wrong answers
that are told what is wrong with them."""

import sys

import pytest

from folio.learn.exercises import find, in_order, names
from folio.learn.judge import judge
from folio.learn.source import BLANK, answer, live_source, stub

WRONG = [(name, wrong) for name in names() for wrong in find(name).wrong]


def verdict_on(name: str, written: str):
    exercise = find(name)
    return judge(exercise, answer(exercise, written))


@pytest.mark.parametrize("name", names())
def test_the_live_source_passes(name):
    found = verdict_on(name, live_source(find(name)))
    assert found.message == ""
    assert len(found.held) == len(find(name).checks)


@pytest.mark.parametrize("name", names())
def test_the_stub_fails_kindly_and_gives_nothing_away(name):
    exercise, text = find(name), stub(find(name))
    found = judge(exercise, text)
    assert found.message == "this is still to be written"
    assert text.splitlines()[found.line - 1].strip() == BLANK
    assert max(map(len, text.splitlines())) <= 88
    code = [line.strip() for line in live_source(exercise).splitlines()]
    given = [line.strip() for line in text.splitlines()]
    assert not [line for line in code if line.startswith("return ") and line in given]


def test_a_stub_says_how_what_is_given_is_called():
    told = (
        "# Given:\n#   dot(a, b)\n#   softmax(scores)\n#   apply(matrix, vector)\n#\n"
    )
    assert told in stub(find("attention_head"))
    assert "#   Batch(denominator, **tensors)\n" in stub(find("shifted_labels"))
    assert "#   windows(ids, batch, length, seed=0)\n" in stub(find("train_gpt"))
    assert "Given:" not in stub(find("char_tokenizer"))


@pytest.mark.parametrize(
    ("name", "wrong"), WRONG, ids=[f"{n}-{w.idea}".replace(" ", "-") for n, w in WRONG]
)
def test_a_wrong_answer_is_told_what_is_wrong(name, wrong):
    found = verdict_on(name, wrong.source(live_source(find(name))))
    assert wrong.told
    assert wrong.told in found.message
    assert found.line


@pytest.mark.parametrize("name", names())
def test_an_exercise_is_complete(name):
    exercise = find(name)
    assert len(exercise.wrong) >= 3
    assert 2 <= len(exercise.hints) <= 3
    assert 1 <= exercise.chapter <= 22
    assert 1 <= exercise.week <= 4
    assert len({wrong.idea for wrong in exercise.wrong}) == len(exercise.wrong)


def test_there_are_enough_and_the_named_ones_among_them():
    assert len(names()) >= 20
    assert {
        "char_tokenizer",
        "attention_head",
        "small_gpt",
        "train_gpt",
        "samples_by_step",
        "causal_self_attention",
    } <= set(names())
    weeks = [exercise.week for exercise in in_order()]
    assert weeks == sorted(weeks)
    places = [(e.week, e.chapter, e.place) for e in in_order()]
    assert len(set(places)) == len(places)
    assert set(weeks) == {1, 2, 3, 4}


def test_the_package_is_left_as_it_was():
    from folio.model import norm

    live = norm.rms_norm
    verdict_on("rms_norm", live_source(find("rms_norm")).replace("eps)", "eps + 1)"))
    assert norm.rms_norm is live
    assert sys.modules["folio.model.norm"] is norm
