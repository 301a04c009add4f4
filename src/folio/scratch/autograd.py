"""Gradients from scratch: numbers that remember where they came from.

Every operation below makes a new `Tensor` and notes what it was made of, and for each
ingredient how a small change of the result would be felt there. `backward` walks these
notes from the loss to the weights: the chain rule, applied in reverse.

>>> x = Tensor([1.0, 2.0, 3.0])
>>> loss = (x * x).sum()  # the derivative of x² is 2 x
>>> loss.backward()
>>> x.grad
array([2., 4., 6.])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Pull = Callable[[np.ndarray], np.ndarray]  # gradient of a result -> of an ingredient
Data = "Tensor | np.ndarray | float | list"


class Tensor:
    """An array, its gradient once `backward` has been called, and how it was made."""

    def __init__(self, data: Data, made_of: Sequence[tuple[Tensor, Pull]] = ()):
        self.data = np.asarray(data, dtype=float)
        self.grad: np.ndarray | None = None
        self.made_of = made_of

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def backward(self) -> None:
        """Add to `grad` of all that this was made of, how it changes this number.

        Later results come first, so that a tensor that was used twice has heard from
        both uses before it passes the sum on.
        """
        gradients = {id(self): np.ones_like(self.data)}
        for tensor in reversed(in_order(self)):
            gradient = gradients.pop(id(tensor))
            if not tensor.made_of:  # a leaf: a weight, or an input
                known = 0.0 if tensor.grad is None else tensor.grad
                tensor.grad = known + gradient
            for ingredient, pull in tensor.made_of:
                share = unbroadcast(pull(gradient), ingredient.shape)
                gradients[id(ingredient)] = gradients.get(id(ingredient), 0.0) + share

    # arithmetic

    def __add__(self, other: Data) -> Tensor:
        other = tensor_of(other)
        made_of = [(self, lambda g: g), (other, lambda g: g)]
        return Tensor(self.data + other.data, made_of)

    def __mul__(self, other: Data) -> Tensor:
        other = tensor_of(other)
        made_of = [(self, lambda g: g * other.data), (other, lambda g: g * self.data)]
        return Tensor(self.data * other.data, made_of)

    def __pow__(self, power: float) -> Tensor:
        slope = power * self.data ** (power - 1)
        return Tensor(self.data**power, [(self, lambda g: g * slope)])

    def __matmul__(self, other: Tensor) -> Tensor:
        """Matrices in the last two dimensions: (..., M, K) @ (..., K, N)."""
        made_of = [
            (self, lambda g: g @ other.data.swapaxes(-1, -2)),
            (other, lambda g: self.data.swapaxes(-1, -2) @ g),
        ]
        return Tensor(self.data @ other.data, made_of)

    def __neg__(self) -> Tensor:
        return self * -1.0

    def __sub__(self, other: Data) -> Tensor:
        return self + -tensor_of(other)

    def __truediv__(self, other: Data) -> Tensor:
        return self * tensor_of(other) ** -1.0

    __radd__, __rmul__ = __add__, __mul__

    # functions of each number

    def exp(self) -> Tensor:
        y = np.exp(self.data)
        return Tensor(y, [(self, lambda g: g * y)])

    def log(self) -> Tensor:
        return Tensor(np.log(self.data), [(self, lambda g: g / self.data)])

    def tanh(self) -> Tensor:
        y = np.tanh(self.data)
        return Tensor(y, [(self, lambda g: g * (1 - y * y))])

    # shapes

    def sum(self, axis: int | None = None) -> Tensor:
        """The sum of all, or along an axis, which then has length 1."""
        keep = axis is not None
        total = self.data.sum(axis, keepdims=keep)
        return Tensor(total, [(self, lambda g: np.broadcast_to(g, self.shape))])

    def mean(self, axis: int | None = None) -> Tensor:
        count = self.data.size if axis is None else self.shape[axis]
        return self.sum(axis) * (1 / count)

    def reshape(self, *shape: int) -> Tensor:
        made_of = [(self, lambda g: g.reshape(self.shape))]
        return Tensor(self.data.reshape(shape), made_of)

    def swap(self, a: int, b: int) -> Tensor:
        """Two axes changed for each other: for matrices, the transpose."""
        made_of = [(self, lambda g: g.swapaxes(a, b))]
        return Tensor(self.data.swapaxes(a, b), made_of)

    def __getitem__(self, index: object) -> Tensor:
        """Rows by their numbers, as a table of embeddings is read.

        A row that is asked for twice gets both gradients.
        """

        def pull(gradient: np.ndarray) -> np.ndarray:
            whole = np.zeros_like(self.data)
            np.add.at(whole, index, gradient)
            return whole

        return Tensor(self.data[index], [(self, pull)])


def tensor_of(value: Data) -> Tensor:
    """A constant is a tensor whose gradient nobody will ask for."""
    return value if isinstance(value, Tensor) else Tensor(value)


def in_order(result: Tensor) -> list[Tensor]:
    """All that `result` was made of, and itself: ingredients before what they made."""
    order: list[Tensor] = []
    seen: set[int] = set()
    waiting = [(result, False)]
    while waiting:  # not by recursion: long computations are deeper than Python allows
        tensor, ready = waiting.pop()
        if ready:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            waiting.append((tensor, True))
            waiting += [(ingredient, False) for ingredient, _ in tensor.made_of]
    return order


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over what NumPy had repeated to make shapes fit.

    >>> unbroadcast(np.ones((2, 3)), (3,))  # one vector, added to two rows
    array([2., 2., 2.])
    """
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    repeated = tuple(
        axis
        for axis, (length, wanted) in enumerate(zip(gradient.shape, shape, strict=True))
        if wanted == 1 and length > 1
    )
    return gradient.sum(repeated, keepdims=True) if repeated else gradient


# ---- what a language model needs, made of the above ----------------------------------


def softmax(scores: Tensor) -> Tensor:
    """Chances along the last axis. The largest score is a constant: it cancels."""
    exponentials = (scores - scores.data.max(-1, keepdims=True)).exp()
    return exponentials / exponentials.sum(-1)


def log_softmax(scores: Tensor) -> Tensor:
    """Logarithms of these chances, exact also where a chance is all but 0."""
    shifted = scores - scores.data.max(-1, keepdims=True)
    return shifted - shifted.exp().sum(-1).log()


def cross_entropy(logits: Tensor, targets: np.ndarray) -> Tensor:
    """The mean surprise at the targets: (..., V), integers (...) -> a number.

    >>> round(float(cross_entropy(Tensor([[0.0, 0.0]]), np.array([1])).data), 4)
    0.6931
    """
    places = tuple(np.indices(targets.shape))
    return -log_softmax(logits)[(*places, targets)].mean()


def layer_norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
    """Each vector with mean 0 and deviation 1, then scaled by what is learned."""
    centered = x - x.mean(-1)
    variance = (centered * centered).mean(-1)
    return centered * (variance + eps) ** -0.5 * gain


def gelu(x: Tensor) -> Tensor:
    """x times the chance that a normal number is below x, nearly (GPT-2's)."""
    inner = (x + x**3.0 * 0.044715) * (2 / np.pi) ** 0.5
    return x * 0.5 * (inner.tanh() + 1.0)
