"""Exercise: scores to chances."""

import math

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import expect, same


def chances_sum_to_1(softmax):
    total = sum(softmax([1.0, 2.0, 4.0]))
    expect(abs(total - 1) < 1e-9, f"chances must sum to 1; yours sum to {total:.4g}")


def a_difference_of_scores_is_a_ratio_of_chances(softmax):
    got = softmax([0.0, math.log(3.0)])
    same(got, [0.25, 0.75], "a score higher by log 3 is three times as likely")


def large_scores_do_not_overflow(softmax):
    same(softmax([1000.0, 1000.0]), [0.5, 0.5], "exp(1000) is too large for a float")


def adding_to_all_scores_changes_nothing(softmax):
    got, wanted = softmax([-1001.0, -1002.0]), softmax([1.0, 0.0])
    same(got, wanted, "only differences of scores count")


def order_is_kept(softmax):
    got = softmax([2.0, 0.0, 1.0])
    expect(got[0] > got[2] > got[1], "chances must stand in the order of the scores")


EXERCISE = Exercise(
    title="Softmax, without overflow",
    chapter=8,
    week=2,
    symbol="folio.scratch.attention:softmax",
    task="""
    Turn a list of scores into chances: positive, summing to 1, each proportional to
    exp(score). Scores may be as large as 1000.
    """,
    hints=(
        "What happens to the chances if you add 5 to all scores?",
        "Subtract a number from all scores such that exp of none overflows.",
        "math.exp(score - max(scores)) is at most 1.",
    ),
    checks=(
        chances_sum_to_1,
        a_difference_of_scores_is_a_ratio_of_chances,
        large_scores_do_not_overflow,
        adding_to_all_scores_changes_nothing,
        order_is_kept,
    ),
    wrong=(
        Wrong(
            "shares of the scores themselves",
            "math.exp(score - largest) for",
            "score for",
            "three times as likely",
        ),
        Wrong("the largest stays", "score - largest", "score", "OverflowError"),
        Wrong("not divided", "e / total", "e", "must sum to 1"),
        Wrong(
            "powers of two",
            "math.exp(score - largest)",
            "2 ** (score - largest)",
            "log 3",
        ),
    ),
)
