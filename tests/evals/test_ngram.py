"""The n-gram baseline: equal to the formula written out with dictionaries."""

from collections import Counter

import numpy as np
import pytest

from folio.config import UserError
from folio.evals.ngram import KneserNey

VOCABULARY = 7


def longhand(ids: list[int], order: int):
    """Interpolated Kneser-Ney as the paper writes it: (context, word) -> p."""
    tables = {}
    grams = Counter(tuple(ids[i : i + order]) for i in range(len(ids) - order + 1))
    tables[order] = grams
    for n in range(order - 1, 0, -1):
        # in how many contexts: distinct one-longer sequences that end in it
        tables[n] = Counter(gram[1:] for gram in tables[n + 1])
    discounts = {}
    for n, table in tables.items():
        once = sum(1 for count in table.values() if count == 1)
        twice = sum(1 for count in table.values() if count == 2)
        discounts[n] = once / (once + 2 * twice) if once else 0.0

    def p(context: tuple[int, ...], word: int) -> float:
        n = len(context) + 1
        lower = p(context[1:], word) if n > 1 else 1 / VOCABULARY
        followers = {g: c for g, c in tables[n].items() if g[:-1] == context}
        total = sum(followers.values())
        if total == 0:
            return lower
        kept = max(followers.get((*context, word), 0) - discounts[n], 0.0)
        return (kept + discounts[n] * len(followers) * lower) / total

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_formula(order):
    rng = np.random.default_rng(order)
    train = rng.integers(0, VOCABULARY - 1, 200)  # the last id is never seen
    held_out = rng.integers(0, VOCABULARY, 60)
    model = KneserNey(train, VOCABULARY, order)
    p = longhand(train.tolist(), order)
    expected = [
        p(tuple(held_out[i : i + order - 1].tolist()), int(held_out[i + order - 1]))
        for i in range(len(held_out) - order + 1)
    ]
    np.testing.assert_allclose(model.probabilities(held_out), expected, rtol=1e-12)


def test_is_a_distribution():
    rng = np.random.default_rng(0)
    model = KneserNey(rng.integers(0, VOCABULARY, 300), VOCABULARY, 3)
    for context in ([0, 1], [6, 6], [3, 2]):
        total = sum(
            model.probabilities(np.array([*context, word]))[0]
            for word in range(VOCABULARY)
        )
        assert total == pytest.approx(1.0)


def test_bits_per_byte_of_a_certain_text_are_none():
    ids = np.array([0, 1] * 100)
    model = KneserNey(ids, 2, 2)
    assert model.bits_per_byte(ids, text_bytes=200) < 0.02


def test_a_longer_memory_helps_where_there_is_something_to_remember():
    rng = np.random.default_rng(1)
    words = [rng.integers(0, 50, 5) for _ in range(20)]
    ids = np.concatenate([words[i] for i in rng.integers(0, 20, 2000)])
    train, held_out = ids[:8000], ids[8000:]
    bits = [
        KneserNey(train, 50, order).bits_per_byte(held_out, len(held_out))
        for order in (1, 2, 3)
    ]
    assert bits[0] > bits[1] + 1 > bits[2] + 1


def test_too_long_an_order_is_refused():
    with pytest.raises(UserError, match="order = 5"):
        KneserNey(np.zeros(100, dtype=int), 50_000, 5)
