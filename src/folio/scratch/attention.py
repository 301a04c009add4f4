"""One attention head, by hand: no framework, no matrices, only lists and loops.

A sentence is a list of vectors, one per token. Each token asks (its query), each offers
what it can be found by (its key) and what it has to say (its value). A token gets the
mean of the values before it, weighed by how well their keys fit its query.

Two of four numbers are enough to follow it with a pencil:

>>> queries = [[1.0, 0.0], [0.0, 2.0]]
>>> keys = [[1.0, 0.0], [0.0, 1.0]]
>>> values = [[10.0, 0.0], [0.0, 10.0]]
>>> weights = attention_weights(queries, keys)
>>> [[round(w, 2) for w in row] for row in weights]
[[1.0], [0.2, 0.8]]
>>> [[round(x, 2) for x in vector] for vector in attend(queries, keys, values)]
[[10.0, 0.0], [1.96, 8.04]]

The first token has only itself to look at. The second fits its own key: its score is
2 / sqrt(2) against 0, and exp(1.41) is four times exp(0).
"""

from __future__ import annotations

import math

import numpy as np

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    """How far two vectors point the same way, times how long they are.

    >>> dot([1.0, 2.0], [3.0, 4.0])
    11.0
    """
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(scores: Vector) -> Vector:
    """Positive numbers that sum to 1, in the order of the scores.

    Subtracting the largest score changes nothing, and keeps exp from overflowing.

    >>> [round(p, 3) for p in softmax([1.0, 2.0, 1002.0])]
    [0.0, 0.0, 1.0]
    """
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def apply(matrix: list[Vector], vector: Vector) -> Vector:
    """A matrix times a vector: one dot product for each row.

    >>> apply([[1.0, 0.0], [1.0, 1.0]], [2.0, 3.0])
    [2.0, 5.0]
    """
    return [dot(row, vector) for row in matrix]


def attention_weights(queries: list[Vector], keys: list[Vector]) -> list[Vector]:
    """For each token, how much it looks at each token up to itself: rows sum to 1.

    Scores are divided by the root of their width: a dot product of K random numbers
    has a deviation of sqrt(K), and large scores would make softmax look at one token
    only (Vaswani et al. 2017, section 3.2.1).
    """
    scale = 1 / math.sqrt(len(keys[0]))
    return [
        softmax([scale * dot(query, key) for key in keys[: place + 1]])
        for place, query in enumerate(queries)
    ]


def attend(
    queries: list[Vector], keys: list[Vector], values: list[Vector]
) -> list[Vector]:
    """Each token's mean of the values it may see, weighed by how well keys fit."""
    width = len(values[0])
    return [
        [
            sum(w * value[i] for w, value in zip(row, values, strict=False))
            for i in range(width)
        ]
        for row in attention_weights(queries, keys)
    ]


class Head:
    """One causal head: three matrices, which a model would learn.

    >>> same = [[1.0, 0.0], [0.0, 1.0]]
    >>> Head(same, same, same)([[1.0, 1.0]])
    [[1.0, 1.0]]
    """

    def __init__(self, query: list[Vector], key: list[Vector], value: list[Vector]):
        self.query, self.key, self.value = query, key, value

    def __call__(self, tokens: list[Vector]) -> list[Vector]:
        """Vectors of a sentence in, as many vectors out; none has looked ahead."""
        return attend(
            [apply(self.query, token) for token in tokens],
            [apply(self.key, token) for token in tokens],
            [apply(self.value, token) for token in tokens],
        )


def attend_at_once(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """`attend` without loops: (T, K), (T, K), (T, W) -> (T, W).

    All scores are one product. What lies ahead gets a score of minus infinity, so that
    its weight is 0: the mask takes the place of `keys[: place + 1]`.
    """
    length, width = keys.shape
    scores = queries @ keys.T / math.sqrt(width)  # (T, T)
    ahead = np.triu(np.ones((length, length), dtype=bool), k=1)
    scores = np.where(ahead, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights @ values
