"""Rank correlation against NumPy's and against the formula for ranks without ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.evals.ranks import (
    average_ranks,
    correlation,
    correlation_within,
    spearman,
)

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=80)
FEW = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9
)  # many ties


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
@SETTINGS
def test_a_rank_is_how_many_lie_below_and_half_of_those_beside(values):
    x = np.array(values)
    wanted = [(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x]
    assert average_ranks(values) == wanted


@given(FEW)
@SETTINGS
def test_correlation_is_numpys(points):
    x, y = map(list, zip(*points, strict=True))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert correlation(x, y) is None
        assert spearman(x, y) is None
        return
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    ranked = np.corrcoef(average_ranks(x), average_ranks(y))[0, 1]
    assert spearman(x, y) == pytest.approx(ranked, abs=1e-12)


@given(st.permutations(range(7)))
@SETTINGS
def test_without_ties_it_is_spearmans_formula(order):
    squares = sum((a - b) ** 2 for a, b in enumerate(order))
    wanted = 1 - 6 * squares / (7 * (49 - 1))
    assert spearman(list(range(7)), order) == pytest.approx(wanted)


def test_only_the_order_counts():
    x = [3.0, -1.0, 8.0, 2.5]
    assert spearman(x, [value**3 for value in x]) == 1
    assert spearman(x, [-value for value in x]) == -1
    assert spearman(x, [0.0, -float("inf"), 1e9, -5.0]) == 1


def test_values_that_are_equal_but_not_exact_are_constant():
    assert correlation([0.1] * 3, [1.0, 2.0, 4.0]) is None
    assert correlation_within([0.1, 0.1, 0.1, 5.0], [1, 2, 4, 9], "aaab") is None


def test_differences_between_groups_do_not_count():
    generator = np.random.default_rng(0)
    groups = [0] * 40 + [1] * 40
    shift = np.array(groups) * 50.0
    x, y = generator.normal(size=(2, 80))
    within = correlation_within(x + shift, y - 3 * shift, groups)
    assert within == pytest.approx(correlation_within(x, y, groups))
    assert correlation(x + shift, y - 3 * shift) < -0.9 < within


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 values against 3"):
        correlation([1, 2], [1, 2, 3])
