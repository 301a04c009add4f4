"""Batches of conversations: padded, or several packed into a row, in a known order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.curriculum import Curriculum
from folio.data.order import Endless, Order, Source, check_ranks, check_state
from folio.data.records import Conversation, Say
from folio.data.rows import (
    Overlong,
    Row,
    check_overlong,
    encode,
    fit,
    make_row,
    pack_rows,
    packed,
    pad_id,
    padded,
)
from folio.text.tokenizer import Tokenizer

BLOCK = 256  # conversations whose rows are worked out together


class Fitter:
    """Conversations to rows of at most `length` targets, counting what that cost."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
        overlong: Overlong = "truncate",
        loss_on_prompt: bool = False,
    ):
        check_overlong(overlong, length)
        self.tokenizer, self.length = tokenizer, length
        self.overlong, self.loss_on_prompt = overlong, loss_on_prompt
        self.seen = self.truncated = self.dropped = 0

    def __call__(self, talk: Conversation) -> Row | None:
        """The row, without the conversation's beginning if need be; None if dropped."""
        ids, weights = encode(talk.messages, self.tokenizer, talk.where)
        if not any(weights):
            where = f"{talk.where}: " if talk.where else ""
            raise UserError(f"{where}the assistant says nothing; nothing to learn")
        whole = make_row(ids, weights)
        row = fit(whole, self.length, self.overlong)
        self.seen += 1
        self.dropped += row is None
        self.truncated += row is not None and len(row.ids) < len(whole.ids)
        if row is not None and self.loss_on_prompt:
            row = Row(row.ids, np.ones_like(row.weights))
        return row

    def report(self) -> str:
        return (
            f"of {self.seen} conversations {self.truncated} lost their beginning and"
            f" {self.dropped} were left out: too long for the context of {self.length}"
        )


class Fixed:
    """A set of conversations, encoded once; an epoch deals each of them once."""

    def __init__(
        self,
        conversations: Sequence[Conversation],
        fitter: Fitter,
        seed: int,
        curriculum: Curriculum | None,
        say: Say,
    ):
        found = [(i, fitter(talk)) for i, talk in enumerate(conversations)]
        self.rows = [row for _, row in found if row is not None]
        if fitter.truncated or fitter.dropped:
            say(fitter.report())
        if not self.rows:
            raise UserError(
                f"length = {fitter.length}: none of {len(found)} conversations fits;"
                " use a longer context"
            )
        self.block_size = min(BLOCK, len(self.rows))
        self.order = Order(len(self.rows), seed)
        self.first = np.empty(0, dtype=np.int64)  # cards that come by difficulty
        if curriculum is not None:
            kept = [i for i, row in found if row is not None]
            curriculum = curriculum.of_kept(kept, len(found))
            lengths = [row.targets for row in self.rows]
            self.first = curriculum.first_cards(lengths, seed)
        digest = hashlib.sha256(self.first.tobytes())
        for row in self.rows:
            digest.update(np.int64(len(row.ids)).tobytes())
            digest.update(row.ids.tobytes() + row.weights.tobytes())
        self.identity = digest.hexdigest()[:16]

    def block(self, number: int) -> list[Row]:
        """Conversations number*block_size and on, in the order of the training."""
        places = np.arange(self.block_size) + number * self.block_size
        cards = self.order.cards(places)
        early = places < len(self.first)
        cards[early] = self.first[places[early]]
        return [self.rows[card] for card in cards]


class Made:
    """Conversations made as they are needed, in the order of their numbers."""

    def __init__(self, source: Endless[Conversation], fitter: Fitter, say: Say):
        self.source, self.fitter, self.say = source, fitter, say
        self.told = False
        self.identity = f"{source.name}, tokenizer {fitter.tokenizer.fingerprint}"

    def block(self, number: int) -> list[Row]:
        numbers = range(number * BLOCK, (number + 1) * BLOCK)
        rows = [self.fitter(self.source.make(n)) for n in numbers]
        if not self.told and (self.fitter.truncated or self.fitter.dropped):
            self.told = True
            self.say(self.fitter.report())
        kept = [row for row in rows if row is not None]
        if not kept:
            raise UserError(
                f"length = {self.fitter.length}: none of {BLOCK} conversations fits;"
                " use a longer context"
            )
        return kept


class ChatStream:
    """Endless batches of conversations, of which the assistant's part is learned.

    The conversations of the whole training stand in one order, a pure function of the
    seed; blocks of them become rows, one each or, `packed`, as few as they fit into.
    In each round of W ranks times `batch` rows, rank r takes rows r*batch to
    (r+1)*batch, so any number of ranks sees the same rows in the same order.

    `length` is the most targets a row may have. Longer conversations lose their
    beginning, or are left out ("drop", or if their last answer alone is too long);
    `say` is told how many. Every row has something to learn.

    >>> from folio.text.byte import ByteTokenizer
    >>> question = {"role": "user", "content": "A?"}
    >>> talk = Conversation((question, {"role": "assistant", "content": "B"}))
    >>> next(ChatStream([talk, talk], ByteTokenizer(), batch=1, length=20))
    Batch(inputs (1, 12) int64, targets (1, 12) int64, weights (1, 12) float32, \
positions (1, 12) int64, documents (1, 12) int64, denominator 4)
    """

    def __init__(
        self,
        conversations: Source[Conversation],
        tokenizer: Tokenizer,
        *,
        batch: int,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        packed: bool = True,
        overlong: Overlong = "truncate",
        loss_on_prompt: bool = False,
        curriculum: Curriculum | None = None,
        say: Say = print,
    ):
        check_ranks(batch, rank, world)
        self.fitter = Fitter(tokenizer, length, overlong, loss_on_prompt)
        self.batch, self.length, self.seed = batch, length, seed
        self.rank, self.world, self.packed = rank, world, packed
        self.pad = pad_id(tokenizer)
        self.block, self.row = 0, 0  # where the next round begins
        self._groups: tuple[int, list[list[Row]]] | None = None  # of one block
        self.source: Fixed | Made
        if not isinstance(conversations, Endless):
            self.source = Fixed(conversations, self.fitter, seed, curriculum, say)
        elif curriculum is None:
            self.source = Made(conversations, self.fitter, say)
        else:
            raise UserError(
                "curriculum: conversations that are made endlessly can't be sorted; use"
                " a fixed number of them, or no curriculum"
            )

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> Batch:
        """This rank's rows of the round; those of others are passed over."""
        block, row = self.block, self.row
        mine: list[list[Row]] = []
        for place in range(self.batch * self.world):
            while row >= len(self.rows_of(block)):
                block, row = block + 1, 0
            if place // self.batch == self.rank:
                mine.append(self.rows_of(block)[row])
            row += 1
        self.block, self.row = block, row
        if self.packed:
            return packed(mine, self.pad)
        return padded([group[0] for group in mine], self.pad)

    def rows_of(self, block: int) -> list[list[Row]]:
        """The rows that a block of the order becomes: conversations of each."""
        if self._groups is None or self._groups[0] != block:
            rows = self.source.block(block)
            alone = [[row] for row in rows]
            groups = pack_rows(rows, self.length) if self.packed else alone
            self._groups = (block, groups)
        return self._groups[1]

    def state_dict(self) -> dict[str, Any]:
        """All that must be remembered (JSON): the position, and of what."""
        return {
            "block": self.block,
            "row": self.row,
            "conversations": self.source.identity,
            "length": self.length,
            "seed": self.seed,
            "packed": self.packed,
            "overlong": self.fitter.overlong,
            "loss_on_prompt": self.fitter.loss_on_prompt,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position; `batch` and `world` may have changed.

        Raises UserError for the position of other conversations or settings.
        """
        check_state(state, self.state_dict(), moves={"block", "row"})
        self.block, self.row = int(state["block"]), int(state["row"])
