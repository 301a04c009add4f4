"""Next-token batches: windows of a long text, shuffled for training, in order for
evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.shards import open_shards
from folio.data.shuffle import key_of, shuffled, uniform
from folio.data.tokens import Tokens

_LOOKAHEAD = 4096  # windows whose order is worked out at once: saves 50 us a batch


class TextStream:
    """Endless batches of windows of `length` tokens, each shifted by one as target.

    The n-th window of the whole training is a pure function of (seed, n). In each
    round of W ranks times `batch` rows, rank r takes rows r*batch to (r+1)*batch, so
    any number of ranks sees the same windows in the same global order.

    `order="epoch"` cuts the text into windows that don't overlap and deals them out
    shuffled, so each token is a target about once an epoch; where the cutting starts
    is drawn anew each epoch. `order="random"` draws every window anywhere, with
    repeats, as nanoGPT does.

    `tokens` may also be a folder of shards, whose training part is opened.

    >>> stream = TextStream(Tokens.from_ids(range(100)), batch=2, length=4)
    >>> batch = next(stream)
    >>> batch
    Batch(inputs (2, 4) int64, targets (2, 4) int64, weights (2, 4) float32, \
denominator 8)
    >>> bool((batch.targets == batch.inputs + 1).all())  # the ids count up by one
    True
    """

    def __init__(
        self,
        tokens: Tokens | str | Path,
        *,
        batch: int,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        order: Literal["epoch", "random"] = "epoch",
    ):
        if isinstance(tokens, (str, Path)):
            tokens = open_shards(tokens, "train")
        _check(tokens, batch, length)
        if not 0 <= rank < world:
            raise UserError(f"rank = {rank}: must lie in 0..{world - 1} (world - 1)")
        if order not in ("epoch", "random"):
            raise UserError(f"order = {order!r}: choose 'epoch' or 'random'")
        self.tokens, self.batch, self.length = tokens, batch, length
        self.seed, self.rank, self.world, self.order = seed, rank, world, order
        self.index = 0  # windows dealt out so far, over all ranks
        self._known = range(0)  # places whose starts are in _starts
        self._starts = np.empty(0, dtype=np.int64)

    @property
    def windows_per_epoch(self) -> int:
        """Windows that fit wherever an epoch's cutting starts: the same each epoch."""
        return max(1, (len(self.tokens) - self.length) // self.length)

    def starts(self, places: np.ndarray) -> np.ndarray:
        """Where the windows at these places of the global order begin: (N,) -> (N,).

        Pure: depends on the seed, the order, and the number and length of tokens.
        """
        if self.order == "random":
            choices = len(self.tokens) - self.length
            return uniform(places, choices, key_of(self.seed))
        count = self.windows_per_epoch
        slack = len(self.tokens) - 1 - count * self.length
        result = np.empty(len(places), dtype=np.int64)
        for epoch in np.unique(places // count):
            here = places // count == epoch
            key = key_of(self.seed, int(epoch))
            offset = key % (slack + 1)
            cards = shuffled(places[here] % count, count, key)
            result[here] = offset + cards * self.length
        return result

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> Batch:
        first = self.index + self.rank * self.batch
        rows = self.tokens.windows(self._order(first, self.batch), self.length + 1)
        self.index += self.batch * self.world
        return next_token_batch(torch.from_numpy(rows))

    def _order(self, first: int, count: int) -> np.ndarray:
        """`starts` of places first..first+count-1, worked out many at a time."""
        if not (first in self._known and first + count <= self._known.stop):
            ahead = max(min(_LOOKAHEAD, self.windows_per_epoch), count)
            self._starts = self.starts(np.arange(first, first + ahead))
            self._known = range(first, first + ahead)
        begin = first - self._known.start
        return self._starts[begin : begin + count]

    def state_dict(self) -> dict[str, Any]:
        """All that must be remembered (JSON): the position, and of what."""
        return {
            "index": self.index,
            "tokens": self.tokens.fingerprint,
            "length": self.length,
            "seed": self.seed,
            "order": self.order,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position; `batch` and `world` may have changed.

        Raises UserError for the position of another text, length, seed or order.
        """
        for name, now in self.state_dict().items():
            if name != "index" and state.get(name) != now:
                raise UserError(
                    f"can't resume the data: {name} was {state.get(name)!r} and is now"
                    f" {now!r}; use the same data and settings, or start a new run"
                )
        self.index = int(state["index"])


def next_token_batch(rows: torch.Tensor) -> Batch:
    """Windows with one token more than inputs: (B, T+1) -> a Batch of (B, T).

    >>> batch = next_token_batch(torch.tensor([[7, 8, 9]]))
    >>> batch.inputs, batch.targets
    (tensor([[7, 8]]), tensor([[8, 9]]))
    """
    inputs = rows[:, :-1].contiguous()  # (B, T)
    targets = rows[:, 1:].contiguous()  # (B, T)
    weights = torch.ones(inputs.shape)  # (B, T)
    return Batch(weights.numel(), inputs=inputs, targets=targets, weights=weights)


def validation_windows(tokens: Tokens, length: int, batch: int) -> Iterator[Batch]:
    """The whole held-out text, once, in order: every token but the first is a target.

    Windows don't overlap, so a token sees on average half a window before it. The
    last window is padded with id 0 and weight 0, and the last batch may have fewer
    rows. The denominators add up to len(tokens) - 1.
    """
    _check(tokens, batch, min(length, 1))  # a longer window than text is padded
    targets = len(tokens) - 1
    full, rest = divmod(targets, length)
    for first in range(0, full, batch):
        starts = np.arange(first, min(first + batch, full)) * length
        yield next_token_batch(torch.from_numpy(tokens.windows(starts, length + 1)))
    if rest:
        row = torch.zeros(1, length + 1, dtype=torch.long)
        row[0, : rest + 1] = torch.from_numpy(tokens[full * length :].astype(np.int64))
        last = next_token_batch(row)
        last["weights"][:, rest:] = 0.0
        last["targets"][:, rest:] = 0
        last.denominator = float(rest)
        yield last


def _check(tokens: Tokens, batch: int, length: int) -> None:
    if batch < 1 or length < 1:
        raise UserError(f"batch = {batch}, length = {length}: must be at least 1")
    if len(tokens) < length + 1:
        raise UserError(
            f"the text has {len(tokens)} tokens, but a context of {length} needs at"
            f" least {length + 1}; use more text or a shorter context"
        )
