"""Exercise: attention as three products of matrices."""

import numpy as np

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import no_look_ahead, same


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def the_weights_of_a_token_sum_to_1(attend):
    got = attend(normal(3, 4), normal(3, 4, seed=1), np.ones((3, 2)))
    broken = "if all values are 1, so is their mean: a row's weights must sum to 1"
    same(got, np.ones((3, 2)), broken)


def the_first_token_sees_only_itself(attend):
    values = normal(3, 2, seed=2)
    got = attend(normal(3, 4), normal(3, 4, seed=1), values)
    same(got[0], values[0], "the first token can only take its own value")


def a_query_must_not_look_at_a_later_key(attend):
    queries, keys, values = normal(6, 4), normal(6, 4, seed=1), normal(6, 2, seed=2)
    before = attend(queries, keys, values)
    keys, values = keys.copy(), values.copy()
    keys[5] += 1
    values[5] -= 1
    no_look_ahead(before, attend(queries, keys, values), 5)


def it_equals_the_loops(attend):
    from folio.scratch.attention import attend as by_loops

    q, k, v = normal(5, 4), normal(5, 4, seed=1), normal(5, 3, seed=2)
    wanted = np.array(by_loops(q.tolist(), k.tolist(), v.tolist()))
    same(attend(q, k, v), wanted, "the same as with loops")


def large_scores_do_not_overflow(attend):
    with np.errstate(over="ignore", invalid="ignore"):
        got = attend(np.full((2, 1), 1e3), np.full((2, 1), 1e3), np.ones((2, 1)))
    same(got, np.ones((2, 1)), "scores of a million")


EXERCISE = Exercise(
    title="Attention at once, in NumPy",
    chapter=8,
    place=3,
    week=2,
    symbol="folio.scratch.attention:attend_at_once",
    task="""
    The same head without loops: all scores are one product, a mask takes the place of
    "up to itself", and one more product gives every token its mean of values.
    """,
    hints=(
        "Rows are queries, columns are keys: scores are (T, T). Which half is ahead?",
        "np.triu(..., k=1) is what lies ahead. What score gives a weight of 0?",
        "np.where(ahead, -np.inf, scores), then softmax along each *row*.",
    ),
    checks=(
        the_weights_of_a_token_sum_to_1,
        the_first_token_sees_only_itself,
        a_query_must_not_look_at_a_later_key,
        it_equals_the_loops,
        large_scores_do_not_overflow,
    ),
    wrong=(
        Wrong(
            "the wrong half",
            "np.triu(np.ones((length, length), dtype=bool), k=1)",
            "np.tril(np.ones((length, length), dtype=bool), k=-1)",
            "the first token can only take its own value",
        ),
        Wrong(
            "masked after the softmax, not before",
            "    weights /= weights.sum(-1, keepdims=True)",
            "    weights = np.exp(queries @ keys.T / math.sqrt(width))\n"
            "    weights /= weights.sum(-1, keepdims=True)\n"
            "    weights[ahead] = 0",
            "a row's weights must sum to 1",
        ),
        Wrong(
            "softmax along columns",
            "weights.sum(-1, keepdims=True)",
            "weights.sum(0, keepdims=True)",
            "a row's weights must sum to 1",
        ),
        Wrong("divided by the width", "math.sqrt(width)", "width", "with loops"),
    ),
)
