"""Exercise: the activation of GPT-2."""

import numpy as np
import torch
import torch.nn.functional as F

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same

X = np.linspace(-4, 4, 17)


def values(gelu):
    from folio.scratch.autograd import Tensor

    return gelu(Tensor(X))


def nothing_stays_nothing(gelu):
    from folio.scratch.autograd import Tensor

    same(gelu(Tensor([0.0])).data, np.zeros(1), "gelu(0) is 0")


def large_numbers_pass_and_small_ones_vanish(gelu):
    from folio.scratch.autograd import Tensor

    got = gelu(Tensor([-30.0, 30.0])).data
    same(got, np.array([0.0, 30.0]), "-30 becomes 0, and 30 stays")


def it_equals_torch(gelu):
    wanted = F.gelu(torch.from_numpy(X), approximate="tanh").numpy()
    same(values(gelu).data, wanted, "PyTorch's gelu of -4 to 4, approximate='tanh'")


def its_slope_equals_torch(gelu):
    from folio.scratch.autograd import Tensor

    mine, theirs = Tensor(X), torch.from_numpy(X).requires_grad_()
    gelu(mine).sum().backward()
    F.gelu(theirs, approximate="tanh").sum().backward()
    same(mine.grad, theirs.grad.numpy(), "the gradient")


EXERCISE = Exercise(
    title="GELU",
    chapter=11,
    place=2,
    week=2,
    symbol="folio.scratch.autograd:gelu",
    task="""
    GPT-2's activation, made of operations of our own autograd:
    x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))). Its gradient then comes by itself.
    """,
    hints=(
        "`Tensor` has +, *, ** and tanh(); each notes its own gradient.",
        "Work from inside: x + x**3.0 * 0.044715 first.",
        "(2 / np.pi) ** 0.5 is a number; multiply a tensor by it, then tanh().",
    ),
    checks=(
        nothing_stays_nothing,
        large_numbers_pass_and_small_ones_vanish,
        it_equals_torch,
        its_slope_equals_torch,
    ),
    wrong=(
        Wrong("no half", "x * 0.5 *", "x *", "30 stays"),
        Wrong(
            "2 / pi without its root", "(2 / np.pi) ** 0.5", "(2 / np.pi)", "PyTorch's"
        ),
        Wrong(
            "as constants, so that no gradient flows",
            "(inner.tanh() + 1.0)",
            "(np.tanh(inner.data) + 1.0)",
            "the gradient",
        ),
        Wrong("x squared", "x**3.0", "x**2.0", "-30 becomes 0"),
    ),
)
