"""What one request adds to its own scores before a token is chosen from them.

A `Sampling` says how a choice is made from scores, for any number of rows. Steering
belongs to a single sample: it depends on what that sample has written so far, or
pushes single tokens up and down. It comes first; temperature and cuts see its result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from folio.config import UserError


class Grammar(Protocol):
    """Which tokens may come next in one text; it is told each one that does."""

    def allowed(self) -> Tensor:
        """(V,) bool, on the CPU; never all False."""

    def accept(self, token: int) -> None: ...


@dataclass(frozen=True)
class Steering:
    """Pushes on tokens, penalties for what was written, a grammar to be obeyed.

    `presence_penalty` is taken once from the score of each token written so far,
    `frequency_penalty` once for each time it was (the API of OpenAI). Tokens of the
    prompt don't count. `grammar` makes one for each sample.
    """

    bias: Mapping[int, float] = field(default_factory=dict, hash=False)  # added
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    grammar: Callable[[], Grammar] | None = None

    def __post_init__(self) -> None:
        for name in ("presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"{name} = {getattr(self, name)}: must be finite")
        for token, value in self.bias.items():
            if math.isnan(value) or value == math.inf:
                raise UserError(f"bias of token {token} = {value}: must be a number")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        penalties = self.presence_penalty, self.frequency_penalty
        return bool(self.bias or any(penalties) or self.grammar)


class Steer:
    """Steering at work on one sample."""

    def __init__(self, steering: Steering):
        self.steering = steering
        self.grammar = steering.grammar() if steering.grammar else None
        self.counts: dict[int, int] = {}  # of the tokens written so far

    def __call__(self, scores: Tensor) -> Tensor:
        """The scores (V,) as this sample wants them; the argument stays as it was.

        >>> steer = Steer(Steering({2: 5.0}, frequency_penalty=1.0))
        >>> steer.accept(0), steer.accept(0)
        (None, None)
        >>> steer(torch.zeros(3))
        tensor([-2.,  0.,  5.])
        """
        steering, changes = self.steering, dict(self.steering.bias)
        if steering.presence_penalty or steering.frequency_penalty:
            for token, count in self.counts.items():
                penalty = steering.presence_penalty + count * steering.frequency_penalty
                changes[token] = changes.get(token, 0.0) - penalty
        if changes:
            change = torch.zeros_like(scores)
            where = torch.tensor(list(changes), device=scores.device)
            change[where] = torch.tensor(list(changes.values())).to(scores)
            scores = scores + change
        if self.grammar is not None:
            allowed = self.grammar.allowed()[: len(scores)].to(scores.device)
            if bool((scores[allowed] == -math.inf).all()):
                raise UserError("bias: forbids every token that the grammar allows")
            scores = scores.masked_fill(~allowed, -math.inf)
        return scores

    def accept(self, token: int) -> None:
        """Take note of a token that was chosen."""
        self.counts[token] = self.counts.get(token, 0) + 1
        if self.grammar is not None:
            self.grammar.accept(token)
