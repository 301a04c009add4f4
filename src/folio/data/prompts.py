"""Prompts for rollouts, in a known order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from folio.config import UserError
from folio.data.order import Endless, Order, Source, check_ranks, check_state
from folio.data.records import Prompt, Say
from folio.data.rows import Overlong, check_overlong, encode
from folio.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Asked:
    """A prompt as ids, up to what opens the reply.

    `place` in the order of the whole training: seed the sampling by it, and rollouts
    don't depend on the number of ranks.
    """

    ids: list[int]
    prompt: Prompt
    place: int


class PromptStream:
    """Endless lists of `batch` prompts, in an order that any number of ranks shares.

    `length` is the most ids a prompt may have. A longer one loses its beginning or is
    left out ("drop"); `say` is told how many. Of prompts that are made endlessly it is
    told of the first, and none can be left out. Raises UserError if none fits.
    """

    def __init__(
        self,
        prompts: Source[Prompt],
        tokenizer: Tokenizer,
        *,
        batch: int,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        overlong: Overlong = "truncate",
        say: Say = print,
    ):
        check_ranks(batch, rank, world)
        check_overlong(overlong, length)
        self.tokenizer = tokenizer
        self.batch, self.length, self.seed = batch, length, seed
        self.rank, self.world, self.overlong = rank, world, overlong
        self.index = 0  # prompts dealt out so far, over all ranks
        self.too_long, self.say = 0, say
        self._source: Source[Prompt] = prompts
        if isinstance(prompts, Endless):
            self.order = Order(None, seed)
            self.identity = f"{prompts.name}, tokenizer {tokenizer.fingerprint}"
        else:
            self._open(prompts)

    def _open(self, prompts: Sequence[Prompt]) -> None:
        kept = []
        digest = hashlib.sha256()
        for prompt in prompts:
            ids = self.fit(prompt)
            if ids is not None:
                kept.append((ids, prompt))
                about = (ids, prompt.answer, prompt.task)
                digest.update(repr(about).encode())
        if self.too_long:
            done = "lost their beginning" if self.overlong == "truncate" else "left out"
            self.say(
                f"{self.too_long} of {len(prompts)} prompts {done}: longer than"
                f" {self.length} tokens"
            )
        if not kept:
            raise UserError(
                f"length = {self.length}: none of {len(prompts)} prompts fits; use a"
                " longer context or fewer new tokens"
            )
        self._kept = kept
        self.order = Order(len(kept), self.seed)
        self.identity = digest.hexdigest()[:16]

    def fit(self, prompt: Prompt) -> list[int] | None:
        """At most `length` ids; None if it is too long and to be left out."""
        ids, _ = encode(prompt.messages, self.tokenizer, prompt.where, True)
        if len(ids) <= self.length:
            return ids
        self.too_long += 1
        return ids[-self.length :] if self.overlong == "truncate" else None

    def __iter__(self) -> PromptStream:
        return self

    def __next__(self) -> list[Asked]:
        first = self.index + self.rank * self.batch
        self.index += self.batch * self.world
        places = np.arange(first, first + self.batch)
        return [
            self._asked(place, card)
            for place, card in zip(
                places.tolist(), self.order.cards(places).tolist(), strict=True
            )
        ]

    def _asked(self, place: int, card: int) -> Asked:
        if not isinstance(self._source, Endless):
            ids, prompt = self._kept[card]
            return Asked(ids, prompt, place)
        prompt, too_long = self._source.make(card), self.too_long
        ids = self.fit(prompt)
        if ids is None:
            raise UserError(
                f"length = {self.length}: prompt {card} of {self._source.name} is"
                " longer; use a longer context, or overlong = 'truncate'"
            )
        if not too_long and self.too_long:
            self.say(
                f"prompt {card} of {self._source.name} is longer than {self.length}"
                " tokens: it, and others like it, lose their beginning"
            )
        return Asked(ids, prompt, place)

    def state_dict(self) -> dict[str, Any]:
        """All that must be remembered (JSON): the position, and of what."""
        return {
            "index": self.index,
            "prompts": self.identity,
            "length": self.length,
            "seed": self.seed,
            "overlong": self.overlong,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position; `batch` and `world` may have changed."""
        check_state(state, self.state_dict(), moves={"index"})
        self.index = int(state["index"])
