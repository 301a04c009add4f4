"""Do two measures of the same things agree in their order?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import groupby
from statistics import fmean


def average_ranks(values: Sequence[float]) -> list[float]:
    """1 for the lowest; equal values share the mean of the ranks that they take up.

    >>> average_ranks([30.0, 10.0, 20.0, 10.0])
    [4.0, 1.5, 3.0, 1.5]
    """
    ranks = [0.0] * len(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    below = 0
    for _, group in groupby(order, key=values.__getitem__):
        places = list(group)
        for place in places:
            ranks[place] = below + (len(places) + 1) / 2
        below += len(places)
    return ranks


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's r: 1 on a rising line, -1 on a falling one; None if one is constant.

    >>> correlation([1.0, 2.0, 3.0], [5.0, 7.0, 9.0])
    1.0
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} values against {len(y)}")
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    a, b = _centred(x, [0] * len(x)), _centred(y, [0] * len(y))
    length = math.sqrt(_product(a, a) * _product(b, b))
    return max(-1.0, min(1.0, _product(a, b) / length))


def _product(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Rank correlation: 1 if x rises wherever y does, however far (Spearman 1904).

    >>> spearman([1.0, 2.0, 3.0], [1.0, 10.0, 1000.0])
    1.0
    """
    return correlation(average_ranks(x), average_ranks(y))


def correlation_within(
    x: Sequence[float], y: Sequence[float], groups: Sequence[Hashable]
) -> float | None:
    """Pearson's r of what is left when each group's mean is taken off both.

    So differences between groups count for nothing.

    >>> correlation([1.0, 2.0, 6.0, 7.0], [1.0, 0.0, 9.0, 8.0]) > 0.9
    True
    >>> correlation_within([1.0, 2.0, 6.0, 7.0], [1.0, 0.0, 9.0, 8.0], "aabb")
    -1.0
    """
    return correlation(_centred(x, groups), _centred(y, groups))


def _centred(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    means = {group: _mean(found) for group, found in members.items()}
    return [v - means[group] for v, group in zip(values, groups, strict=True)]


def _mean(values: Sequence[float]) -> float:
    """Of equal values that value, to the last bit: what is constant stays constant."""
    return values[0] if min(values) == max(values) else fmean(values)
