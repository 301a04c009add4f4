"""Exercise: the learning rate over time."""

import math

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import expect


def near(got, wanted, broken):
    expect(abs(got - wanted) < 1e-6, f"{broken}: {got:.4g}, expected {wanted:.4g}")


def the_first_step_is_small_but_not_nothing(warmup_cosine):
    near(warmup_cosine(4, 20)(0), 0.25, "step 0 of 4 steps of warm-up")


def the_peak_comes_with_the_last_step_of_warming_up(warmup_cosine):
    near(warmup_cosine(4, 20)(3), 1.0, "step 3 of 4 steps of warm-up")


def it_falls_by_half_a_cosine(warmup_cosine):
    schedule = warmup_cosine(4, 20, floor=0.0)
    near(schedule(12), 0.5, "half-way between warm-up and end")
    near(schedule(8), 0.5 + 0.5 * math.cos(math.pi / 4), "after a quarter of the way")


def it_ends_at_the_floor(warmup_cosine):
    near(warmup_cosine(4, 20, floor=0.1)(20), 0.1, "at the last step, the floor")
    near(warmup_cosine(4, 20, floor=0.1)(12), 0.55, "half-way from 1 to the floor")


def it_stays_there(warmup_cosine):
    near(warmup_cosine(4, 20, floor=0.1)(33), 0.1, "long after the end")


def no_warm_up_is_possible(warmup_cosine):
    near(warmup_cosine(0, 20)(0), 1.0, "without warm-up, step 0 is at the peak")


EXERCISE = Exercise(
    title="Warm up, then half a cosine",
    chapter=15,
    place=3,
    week=3,
    symbol="folio.optim.schedule:warmup_cosine",
    task="""
    Return a function from the step (0 is the first) to a fraction of the peak rate: up
    in a straight line over `warmup` steps, as (step + 1) / warmup, then down along half
    a cosine to `floor` at step `steps`, and there it stays.
    """,
    hints=(
        "Three pieces: step < warmup, then up to `steps`, then beyond.",
        "progress = (step - warmup) / (steps - warmup) goes from 0 to 1.",
        "floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))",
    ),
    given=("Schedule",),
    checks=(
        the_first_step_is_small_but_not_nothing,
        the_peak_comes_with_the_last_step_of_warming_up,
        it_falls_by_half_a_cosine,
        it_ends_at_the_floor,
        it_stays_there,
        no_warm_up_is_possible,
    ),
    wrong=(
        Wrong(
            "warm-up from the start of the fall",
            "_progress(step, warmup, steps)",
            "_progress(step, 0, steps)",
            "step 3 of 4",
        ),
        Wrong(
            "it climbs again after the end",
            "_progress(step, warmup, steps)",
            "(max(0, step - warmup) / (steps - warmup))",
            "long after the end",
        ),
        Wrong(
            "step / warmup: nothing is learned first",
            "_warm(min(step, steps), warmup)",
            "(min(1.0, step / warmup) if warmup else 1.0)",
            "step 0 of 4",
        ),
        Wrong(
            "the floor is added",
            "floor + (1 - floor) * 0.5",
            "floor + 0.5",
            "step 0 of 4",
        ),
        Wrong(
            "a whole cosine",
            "math.pi * _progress",
            "2 * math.pi * _progress",
            "half-way",
        ),
    ),
)
