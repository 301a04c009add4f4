"""Counting instead of learning: the Kneser-Ney n-gram model, the baseline to beat."""

from __future__ import annotations

import numpy as np

from folio.config import UserError


class KneserNey:
    """Interpolated Kneser-Ney over token ids (Chen & Goodman 1999, section 2.7).

    p(w | context) = max(c(context w) - d, 0) / c(context)
                     + d * types(context) / c(context) * p(w | shorter context)

    The longest order counts occurrences; shorter ones count in how many different
    contexts a sequence occurs. Each order has one discount d = n1 / (n1 + 2 n2), from
    the sequences seen once and twice. An n-gram is one integer: the ids side by side,
    so that sorted arrays are all the tables there are.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int, order: int = 5):
        self.order, self.vocab_size = order, vocab_size
        self.bits = max(1, int(vocab_size - 1).bit_length())
        if self.bits * order > 63:
            raise UserError(
                f"order = {order}: {order} ids of {self.bits} bits don't fit one "
                "integer; use a shorter order or a smaller vocabulary"
            )
        if len(ids) < order:
            raise UserError(f"{len(ids)} tokens are too few for an order of {order}")
        keys, counts = np.unique(self._keys(ids, order), return_counts=True)
        self.tables = {order: (keys, counts)}
        for n in range(order - 1, 0, -1):
            shorter = keys & ((1 << (self.bits * n)) - 1)  # drop the oldest id
            keys, counts = np.unique(shorter, return_counts=True)
            self.tables[n] = (keys, counts)

    def _keys(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Every n-gram as one integer: (N,) -> (N - n + 1,)."""
        ids = np.asarray(ids, dtype=np.int64)
        keys = np.zeros(len(ids) - n + 1, dtype=np.int64)
        for j in range(n):
            keys = (keys << self.bits) | ids[j : len(ids) - n + 1 + j]
        return keys

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """p of each id after the first order - 1, given those before it."""
        p = np.full(len(ids) - self.order + 1, 1 / self.vocab_size)
        for n in range(1, self.order + 1):
            keys, counts = self.tables[n]
            wanted = self._keys(ids[self.order - n :], n)
            discount = _discount(counts)
            kept = np.maximum(_look_up(keys, counts, wanted) - discount, 0.0)
            contexts, totals, types = self._contexts(n)
            total = _look_up(contexts, totals, wanted >> self.bits)
            fresh = discount * _look_up(contexts, types, wanted >> self.bits)
            known = total > 0
            p[known] = (kept[known] + fresh[known] * p[known]) / total[known]
        return p

    def _contexts(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the n-grams begin with: (contexts, counts after each, types after)."""
        keys, counts = self.tables[n]
        contexts, starts = np.unique(keys >> self.bits, return_index=True)
        ends = np.append(starts[1:], len(keys))
        return contexts, np.add.reduceat(counts, starts), ends - starts

    def bits_per_byte(self, ids: np.ndarray, text_bytes: int) -> float:
        """Bits for `ids`, per byte of their text.

        The first order - 1 ids, which lack a full context, are taken to cost as much
        as the others do on average.
        """
        p = self.probabilities(ids)
        return float(-np.log2(p).mean() * len(ids) / text_bytes)


def _discount(counts: np.ndarray) -> float:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.0


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """values at the wanted keys, 0 where there is no such key."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
