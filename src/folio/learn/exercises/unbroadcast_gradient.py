"""Exercise: gradients of what was repeated to make shapes fit."""

import numpy as np

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same

GRADIENT = np.arange(6.0).reshape(2, 3)


def equal_shapes_pass_through(unbroadcast):
    same(unbroadcast(GRADIENT, (2, 3)), GRADIENT, "nothing was repeated")


def rows_that_were_added_are_summed(unbroadcast):
    got = unbroadcast(GRADIENT, (3,))
    same(got, np.array([3.0, 5.0, 7.0]), "a vector used in two rows hears from both")


def a_length_of_1_is_kept(unbroadcast):
    got = unbroadcast(GRADIENT, (2, 1))
    same(got, np.array([[3.0], [12.0]]), "a column used three times hears from all")


def a_single_number_gets_the_sum(unbroadcast):
    got = unbroadcast(GRADIENT, ())
    same(np.asarray(got), np.array(15.0), "a number used six times hears from all")


EXERCISE = Exercise(
    title="What was repeated hears from all uses",
    chapter=7,
    place=3,
    week=2,
    symbol="folio.scratch.autograd:unbroadcast",
    task="""
    NumPy repeats a vector to add it to every row of a matrix. So its gradient is the
    sum over these rows. Bring a gradient back to the shape of the ingredient: sum over
    dimensions that were put in front, and over those that had length 1.
    """,
    hints=(
        "Two kinds of repetition: new dimensions in front, and lengths of 1.",
        "Sum away the first ndim - len(shape) dimensions; then look at lengths of 1.",
        "For the second kind, sum with keepdims=True.",
    ),
    checks=(
        equal_shapes_pass_through,
        rows_that_were_added_are_summed,
        a_length_of_1_is_kept,
        a_single_number_gets_the_sum,
    ),
    wrong=(
        Wrong(
            "the mean of all uses",
            "gradient.sum(tuple(range(gradient.ndim - len(shape))))",
            "gradient.mean(tuple(range(gradient.ndim - len(shape))))",
            "hears from both",
        ),
        Wrong(
            "the dimension is lost", "keepdims=True", "keepdims=False", "wrong shape"
        ),
        Wrong(
            "lengths of 1 are forgotten",
            "if repeated else gradient",
            "if False else gradient",
            "wrong shape",
        ),
    ),
)
