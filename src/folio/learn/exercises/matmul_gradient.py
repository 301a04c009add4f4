"""Exercise: a product of matrices, and its gradients."""

import numpy as np

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same

CHANCE = np.random.default_rng(0)
A, B, G = (CHANCE.normal(size=s) for s in ((2, 3, 4), (2, 4, 5), (2, 3, 5)))


def gradients(product):
    """Of the sum of (A @ B) * G, for A and B."""
    from folio.scratch.autograd import Tensor

    a, b = Tensor(A), Tensor(B)
    (product(a, b) * G).sum().backward()
    return a.grad, b.grad


def by_hand(position):
    """The slopes of the same, found by moving each number of A or B a little."""
    operands, slopes = [A.copy(), B.copy()], np.zeros_like((A, B)[position])
    for place in np.ndindex(slopes.shape):
        ends = []
        for step in (1e-6, -1e-6):
            operands[position][place] += step
            ends.append(((operands[0] @ operands[1]) * G).sum())
            operands[position][place] -= step
        slopes[place] = (ends[0] - ends[1]) / 2e-6
    return slopes


def the_product_is_right(product):
    from folio.scratch.autograd import Tensor

    same(product(Tensor(A), Tensor(B)).data, A @ B, "the product of two matrices")


def the_left_one_gets_its_slopes(product):
    same(gradients(product)[0], by_hand(0), "the gradient of the left matrix")


def the_right_one_gets_its_slopes(product):
    same(gradients(product)[1], by_hand(1), "the gradient of the right matrix")


EXERCISE = Exercise(
    title="The gradient of a product of matrices",
    chapter=7,
    place=2,
    week=2,
    symbol="folio.scratch.autograd:Tensor.__matmul__",
    given=("Tensor",),
    task="""
    `self @ other` for our own autograd, for stacks of matrices (..., M, K) and
    (..., K, N). Nearly all the time of training is spent in these three products.
    """,
    hints=(
        "The gradient that comes in is (M, N). Which product with it is (M, K)?",
        "Shapes leave one choice: g times the other one, turned, or the reverse.",
        "For the left: g @ other.data.swapaxes(-1, -2).",
    ),
    checks=(
        the_product_is_right,
        the_left_one_gets_its_slopes,
        the_right_one_gets_its_slopes,
    ),
    wrong=(
        Wrong("not turned", "other.data.swapaxes(-1, -2)", "other.data", "matmul"),
        Wrong(
            "turned as a whole, stack and all",
            "other.data.swapaxes(-1, -2)",
            "other.data.T",
            "matmul",
        ),
        Wrong(
            "as for numbers",
            "self.data.swapaxes(-1, -2) @ g",
            "self.data.mean(1)[:, :, None] * g.mean(1)[:, None] * 3",
            "the gradient of the right matrix",
        ),
    ),
)
