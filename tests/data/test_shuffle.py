"""Shuffles computed from a counter: one-to-one, even, and the same everywhere."""

import numpy as np
import pytest

from folio.data.shuffle import key_of, mix, shuffled, uniform


@pytest.mark.parametrize("size", [*range(1, 70), 1000, 4096, 4097, 65535])
def test_every_card_lies_at_exactly_one_place(size):
    for key in (0, 1, 2**64 - 1):
        cards = shuffled(np.arange(size), size, key)
        assert np.array_equal(np.sort(cards), np.arange(size))


def test_places_can_be_asked_for_one_at_a_time():
    whole = shuffled(np.arange(777), 777, key=5)
    for place in range(0, 777, 13):
        assert shuffled(np.array([place]), 777, key=5)[0] == whole[place]


def test_a_huge_deck_costs_nothing():
    size = 10**15 + 7
    cards = shuffled(np.arange(1000), size, key=3)
    assert len(set(cards.tolist())) == 1000
    assert cards.min() >= 0
    assert cards.max() < size
    assert 0.45 < cards.mean() / size < 0.55


@pytest.mark.parametrize("size", [2, 5, 16])
def test_each_card_comes_first_equally_often(size):
    """Chi-squared over 2,000 keys for each place; 8 sigmas are allowed."""
    keys = 2000
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), shuffled(np.arange(size), size, key_of(key))] += 1
    expected = keys / size
    chi_squared = ((counts - expected) ** 2 / expected).sum(axis=1)
    assert chi_squared.max() < (size - 1) + 8 * np.sqrt(2 * (size - 1))


def test_neighbors_are_unrelated():
    cards = shuffled(np.arange(10_000), 10_000, key=1)
    assert abs(np.corrcoef(cards[:-1], cards[1:])[0, 1]) < 0.04
    other = shuffled(np.arange(10_000), 10_000, key=2)
    assert abs(np.corrcoef(cards, other)[0, 1]) < 0.04
    assert (cards == other).sum() < 12


def test_uniform_draws_evenly_with_repeats():
    draws = uniform(np.arange(100_000), 100, key=9)
    counts = np.bincount(draws, minlength=100)
    assert len(counts) == 100
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 5 * np.sqrt(2 * 99)


def test_mix_is_splitmix64():
    """The first outputs of the published generator with seed 0."""
    state = np.array([0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A], dtype=np.uint64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert mix(state).tolist() == expected


def test_the_order_never_changes_between_versions():
    """Snapshots store a position in this order: changing it would break them."""
    assert shuffled(np.arange(8), 8, key_of(0, 0)).tolist() == [3, 1, 6, 0, 5, 2, 4, 7]
    assert uniform(np.arange(4), 1000, key_of(1)).tolist() == [452, 418, 240, 325]
