"""In which order records are dealt: without end, by a seed, alike for all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from folio.config import UserError
from folio.data.shuffle import key_of, shuffled

T = TypeVar("T")


@dataclass(frozen=True)
class Endless(Generic[T]):
    """Records made one by one: `make(n)` gives the n-th, always the same.

    `name` says which ones, so that a run isn't resumed with others.
    """

    make: Callable[[int], T]
    name: str


Source = Sequence[T] | Endless[T]


class Order:
    """Which of `count` records lies at each place of an endless order.

    Each epoch is shuffled anew and deals every record once. None for `count`: records
    are made endlessly, and the order is theirs.

    >>> Order(3, seed=0).cards(np.arange(6))
    array([...])
    """

    def __init__(self, count: int | None, seed: int = 0):
        self.count, self.seed = count, seed

    def cards(self, places: np.ndarray) -> np.ndarray:
        """The records at these places: (N,) -> (N,)."""
        if self.count is None:
            return places
        cards = np.empty(len(places), dtype=np.int64)
        for epoch in np.unique(places // self.count):
            here = places // self.count == epoch
            key = key_of(self.seed, int(epoch))
            cards[here] = shuffled(places[here] % self.count, self.count, key)
        return cards


def check_ranks(batch: int, rank: int, world: int) -> None:
    """Raise a UserError for settings that deal nothing or to nobody."""
    if batch < 1:
        raise UserError(f"batch = {batch}: must be at least 1")
    if not 0 <= rank < world:
        raise UserError(f"rank = {rank}: must lie in 0..{world - 1} (world - 1)")


def check_state(state: dict[str, Any], now: dict[str, Any], moves: set[str]) -> None:
    """Raise a UserError unless all but what `moves` is as it was."""
    for name, value in now.items():
        if name not in moves and state.get(name) != value:
            raise UserError(
                f"can't resume the data: {name} was {state.get(name)!r} and is now"
                f" {value!r}; use the same data and settings, or start a new run"
            )
