"""Schedules: closed forms, and promises kept for every warm-up and length."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.optim.schedule import (
    constant,
    make_schedule,
    warmup_cosine,
    warmup_linear,
    warmup_stable_decay,
)

NAMES = ("constant", "cosine", "linear", "wsd")
lengths = st.integers(1, 300)
warmups = st.integers(0, 400)
floors = st.floats(0, 1)
thorough = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def test_the_cosine_is_half_a_turn():
    schedule = warmup_cosine(10, 110, floor=0.2)
    for step in range(10, 110):
        wanted = 0.2 + 0.8 * (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert schedule(step) == pytest.approx(wanted, abs=1e-12)
    assert schedule(60) == pytest.approx(0.6)
    assert schedule(110) == pytest.approx(0.2)


def test_the_line_is_a_line():
    schedule = warmup_linear(10, 110, floor=0.5)
    for step in range(10, 111):
        assert schedule(step) == pytest.approx(1 - 0.5 * (step - 10) / 100)


def test_stable_decay_is_stable_then_decays():
    schedule = warmup_stable_decay(10, 100, decay=0.25, floor=0.1)
    assert all(schedule(step) == 1.0 for step in range(9, 76))
    for step in range(75, 101):
        assert schedule(step) == pytest.approx(1 - 0.9 * (step - 75) / 25)


def test_constant_is_constant():
    assert {constant(5)(step) for step in range(4, 1000)} == {1.0}
    assert constant()(0) == 1.0


@thorough
@given(st.sampled_from(NAMES), warmups, lengths, floors)
def test_what_every_schedule_promises(name, warmup, steps, floor):
    schedule = make_schedule(name, warmup, steps, floor)
    values = [schedule(step) for step in range(steps + 500)]
    assert all(0 <= value <= 1 for value in values)
    assert values == [schedule(step) for step in range(steps + 500)]  # pure
    if floor > 0 or steps > 1:
        assert values[0] > 0
    if warmup > 1:
        assert values[0] < 1  # the first step is not at the peak
    if name == "constant":
        assert all(a <= b for a, b in pairwise(values))
        return
    decay_from = steps - round(0.2 * steps) if name == "wsd" else steps
    for step in range(1, min(warmup, decay_from)):
        assert values[step] > values[step - 1]  # it rises through the warm-up
    assert len(set(values[steps:])) == 1  # and stays where it is after the end
    for step in range(max(1, warmup), len(values)):
        assert values[step] <= values[step - 1] + 1e-12  # having fallen until then
    if warmup <= steps:
        assert values[-1] == pytest.approx(floor, abs=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
@pytest.mark.parametrize("warmup", [20, 21, 100])
def test_a_warm_up_longer_than_training_does_not_climb_after_the_end(name, warmup):
    schedule = make_schedule(name, warmup, 20, 0.1)
    assert schedule(500) == schedule(20) <= schedule(19)


@pytest.mark.parametrize("name", NAMES)
def test_training_to_the_end_uses_the_whole_schedule(name):
    """Updates count from 0 to steps - 1; none is skipped by an off-by-one."""
    schedule = make_schedule(name, 4, 20, 0.0)
    assert [schedule(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule(19) > 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("cosin", 1, 2, 0.1), r"schedule = 'cosin'; did you mean 'cosine'\?"),
        (("cosine", -1, 2, 0.1), "warmup = -1: must be 0 or more"),
        (("cosine", 1, 2, -0.1), "floor = -0.1"),
        (("cosine", 1, 2, 1.1), "floor = 1.1"),
        (("cosine", 1, 2, float("nan")), "floor = nan"),
    ],
)
def test_impossible_settings_are_named(fields, words):
    with pytest.raises(UserError, match=words):
        make_schedule(*fields)
