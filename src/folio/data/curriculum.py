"""Easy conversations first, for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from folio.config import UserError
from folio.data.order import Order
from folio.data.shuffle import key_of, shuffled


@dataclass(frozen=True)
class Curriculum:
    """Easy ones first, in the first `share` of the first epoch.

    Which conversations come there is left to chance, so that the rest of the epoch is
    like any other; only their order is by `difficulty`, one number a conversation, or
    by length. Within windows of `window` of them chance decides again: otherwise
    every batch would have conversations of one length alone.
    """

    share: float = 0.3
    window: int = 64
    difficulty: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"curriculum.share = {self.share}: must lie in (0, 1]")
        if self.window < 1:
            raise UserError(f"curriculum.window = {self.window}: must be at least 1")

    def of_kept(self, kept: Sequence[int], count: int) -> Curriculum:
        """The same when only some of `count` conversations fit the context."""
        if self.difficulty is None:
            return self
        if len(self.difficulty) != count:
            raise UserError(
                f"curriculum.difficulty: {len(self.difficulty)} numbers for {count}"
                " conversations; give one for each"
            )
        if not np.isfinite(self.difficulty).all():
            raise UserError("curriculum.difficulty: every number must be finite")
        return replace(self, difficulty=[self.difficulty[i] for i in kept])

    def first_cards(self, lengths: Sequence[int], seed: int) -> np.ndarray:
        """The cards of the first epoch that come by difficulty, in their order.

        >>> Curriculum(share=1.0, window=1).first_cards([30, 10, 20], seed=0)
        array([1, 2, 0])
        """
        count = max(1, round(self.share * len(lengths)))
        cards = Order(len(lengths), seed).cards(np.arange(count))
        hardness = np.asarray(lengths if self.difficulty is None else self.difficulty)
        cards = cards[np.argsort(hardness[cards], kind="stable")]
        for start in range(0, count, self.window):
            part = cards[start : start + self.window].copy()
            places = shuffled(np.arange(len(part)), len(part), key_of(seed, start, 1))
            cards[start : start + len(part)] = part[places]
        return cards
