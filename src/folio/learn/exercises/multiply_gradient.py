"""Exercise: a product, and what each factor is told of a change."""

import numpy as np

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same


def gradients(product, a, b):
    """The gradients of (a * b).sum(), a and b as leaves."""
    from folio.scratch.autograd import Tensor

    x, y = Tensor(a), Tensor(b)
    product(x, y).sum().backward()
    return x.grad, y.grad


def the_product_is_right(product):
    from folio.scratch.autograd import Tensor

    got = product(Tensor([2.0, 3.0]), Tensor([4.0, 5.0])).data
    same(got, np.array([8.0, 15.0]), "2 * 4 and 3 * 5")


def each_factor_gets_the_other(product):
    for_a, for_b = gradients(product, [2.0, 3.0], [4.0, 5.0])
    same(for_a, np.array([4.0, 5.0]), "the derivative of a b by a is b")
    same(for_b, np.array([2.0, 3.0]), "the derivative of a b by b is a")


def the_chain_goes_on(product):
    from folio.scratch.autograd import Tensor

    x = Tensor([3.0])
    (product(x, Tensor([2.0])) ** 2.0).sum().backward()
    same(
        x.grad, np.array([24.0]), "(2 x)² has the slope 8 x: the gradient is passed on"
    )


def a_number_times_itself(product):
    from folio.scratch.autograd import Tensor

    x = Tensor([3.0])
    product(x, x).sum().backward()
    same(x.grad, np.array([6.0]), "x x has the slope 2 x: both uses count")


def plain_numbers_may_stand_beside(product):
    from folio.scratch.autograd import Tensor

    same(product(Tensor([3.0]), 2.0).data, np.array([6.0]), "a tensor times 2.0")


EXERCISE = Exercise(
    title="The gradient of a product",
    chapter=7,
    week=2,
    symbol="folio.scratch.autograd:Tensor.__mul__",
    given=("Tensor", "tensor_of"),
    task="""
    `self * other` for our own autograd. The result notes what it was made of: pairs of
    an ingredient and a function that turns the gradient of the result into that of the
    ingredient. `Tensor(data, made_of)` makes it.
    """,
    hints=(
        "If a grows a little, by how much does a b grow?",
        "The gradient that comes in is multiplied by the *other* factor's data.",
        "made_of = [(self, lambda g: g * other.data), (other, ...)]",
    ),
    checks=(
        the_product_is_right,
        each_factor_gets_the_other,
        the_chain_goes_on,
        a_number_times_itself,
        plain_numbers_may_stand_beside,
    ),
    wrong=(
        Wrong(
            "each factor gets itself",
            "(self, lambda g: g * other.data), (other, lambda g: g * self.data)",
            "(self, lambda g: g * self.data), (other, lambda g: g * other.data)",
            "the derivative of a b by a is b",
        ),
        Wrong(
            "the gradient that comes in is forgotten",
            "(self, lambda g: g * other.data)",
            "(self, lambda g: other.data)",
            "passed on",
        ),
        Wrong(
            "as for a sum",
            "(other, lambda g: g * self.data)",
            "(other, lambda g: g)",
            "the derivative of a b by b is a",
        ),
        Wrong("only tensors", "    other = tensor_of(other)\n", "", "AttributeError"),
    ),
)
