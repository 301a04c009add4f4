"""Every gradient of the small autograd is PyTorch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from folio.scratch import autograd
from folio.scratch.autograd import Tensor

TARGETS = np.array([[0, 2, 1], [3, 3, 0]])
CASES = {  # name: ours, theirs, shapes of what they are given
    "add": (lambda a, b: a + b, lambda a, b: a + b, [(2, 3), (3,)]),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b, [(2, 1, 3), (4, 1)]),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b, [(2, 3), (2, 1)]),
    "divide": (lambda a, b: a / b, lambda a, b: a / b, [(2, 3), (1,)]),
    "constant": (lambda a: 2.0 * a + 1.0, lambda a: 2.0 * a + 1.0, [(2,)]),
    "power": (lambda a: (a * a + 1) ** -0.5, lambda a: (a * a + 1) ** -0.5, [(3,)]),
    "matmul": (lambda a, b: a @ b, lambda a, b: a @ b, [(2, 3), (3, 4)]),
    "many": (lambda a, b: a @ b, lambda a, b: a @ b, [(2, 5, 2, 3), (3, 4)]),
    "exp": (lambda a: a.exp(), lambda a: a.exp(), [(3,)]),
    "log": (lambda a: (a * a + 1).log(), lambda a: (a * a + 1).log(), [(3,)]),
    "tanh": (lambda a: a.tanh(), lambda a: a.tanh(), [(3,)]),
    "mean": (lambda a: a.mean(1), lambda a: a.mean(1, keepdim=True), [(2, 3, 4)]),
    "turn": (
        lambda a: a.reshape(2, 3, 2).swap(0, 2),
        lambda a: a.reshape(2, 3, 2).transpose(0, 2),
        [(4, 3)],
    ),
    "rows": (lambda a: a[TARGETS], lambda a: a[TARGETS], [(4, 2)]),
    "twice": (lambda a: a * a + a @ a, lambda a: a * a + a @ a, [(3, 3)]),
    "softmax": (autograd.softmax, lambda a: a.softmax(-1), [(2, 5)]),
    "gelu": (autograd.gelu, lambda a: F.gelu(a, approximate="tanh"), [(9,)]),
    "norm": (
        autograd.layer_norm,
        lambda x, gain: F.layer_norm(x, (4,), gain),
        [(2, 3, 4), (4,)],
    ),
    "cross-entropy": (
        lambda a: autograd.cross_entropy(a, TARGETS),
        lambda a: F.cross_entropy(a.flatten(0, 1), torch.tensor(TARGETS).flatten()),
        [(2, 3, 4)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_pytorch(case):
    ours, theirs, shapes = CASES[case]
    chance = np.random.default_rng(0)
    arrays = [chance.normal(size=shape) for shape in shapes]
    mine = [Tensor(array) for array in arrays]
    others = [torch.tensor(array, requires_grad=True) for array in arrays]
    result, wanted = ours(*mine), theirs(*others)
    np.testing.assert_allclose(result.data, wanted.detach(), rtol=1e-10)
    mix = chance.normal(size=result.shape)  # so that no two numbers count alike
    (result * mix).sum().backward()
    (wanted * torch.tensor(mix)).sum().backward()
    for one, other in zip(mine, others, strict=True):
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-8, atol=1e-12)


def test_gradients_of_two_losses_add_up():
    x = Tensor([1.0, 2.0])
    (x * 3.0).sum().backward()
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad, [5.0, 7.0])


def test_a_long_computation_is_no_deeper_than_python_allows():
    x = y = Tensor([1.0])
    for _ in range(5000):
        y = y * 1.0001
    y.sum().backward()
    np.testing.assert_allclose(x.grad, [1.0001**5000])
