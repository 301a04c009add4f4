"""Batches of preferences: the chosen answers above, the rejected ones below."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.order import Endless, Order, Source, check_ranks, check_state
from folio.data.records import Pair, Say
from folio.data.rows import (
    Row,
    check_overlong,
    cut_left,
    encode,
    last_answer,
    make_row,
    pad_id,
    padded,
)
from folio.text.tokenizer import Tokenizer


class RowPair(NamedTuple):
    """Both answers after their prompt; only the answers have weight."""

    chosen: Row
    rejected: Row


class PairFitter:
    """Pairs to rows of at most `length` targets, counting what that cost.

    Both sides lose the beginning of the prompt alike: it is at their ends that they
    differ. None for a pair whose answer alone is too long, or whose answers are the
    same ids.
    """

    def __init__(self, tokenizer: Tokenizer, length: int):
        check_overlong("truncate", length)
        self.tokenizer, self.length = tokenizer, length
        self.seen = self.truncated = self.too_long = self.equal = 0

    def __call__(self, pair: Pair) -> RowPair | None:
        self.seen += 1
        chosen = self._row(pair, pair.chosen)
        rejected = self._row(pair, pair.rejected)
        if np.array_equal(chosen.ids, rejected.ids):
            self.equal += 1
            return None
        excess = max(chosen.targets, rejected.targets) - self.length
        if excess >= min(last_answer(chosen.weights), last_answer(rejected.weights)):
            self.too_long += 1
            return None
        self.truncated += excess > 0
        return RowPair(cut_left(chosen, excess), cut_left(rejected, excess))

    def _row(self, pair: Pair, answer: str) -> Row:
        messages = [*pair.prompt, {"role": "assistant", "content": answer}]
        row = make_row(*encode(messages, self.tokenizer, pair.where))
        weights = row.weights.copy()
        weights[: last_answer(weights)] = 0  # earlier answers belong to the prompt
        return Row(row.ids, weights)

    def report(self) -> str:
        return (
            f"of {self.seen} pairs {self.truncated} lost the beginning of their prompt"
            f" and {self.too_long} were left out: too long for the context of"
            f" {self.length}; {self.equal} left out: both answers are the same tokens"
        )


class PairStream:
    """Endless batches of P = `batch` pairs: rows 0..P-1 chosen, P..2P-1 rejected.

    inputs, targets, weights (2P, T): weight 1 on an answer and its end of turn.
    margins (P,). categories (P,): places in `category_names`, where "" is the first.
    references (2P,), after `with_reference`: log-probs of the answers, summed.
    The denominator is P.

    What doesn't fit is dealt with by `PairFitter`; `say` is told how many. The order
    is the same for any number of ranks, as in TextStream. For pairs that are made
    endlessly, `categories` names what may come, and every pair must fit.
    """

    def __init__(
        self,
        pairs: Source[Pair],
        tokenizer: Tokenizer,
        *,
        batch: int,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        categories: Sequence[str] = (),
        say: Say = print,
    ):
        check_ranks(batch, rank, world)
        self.fitter = PairFitter(tokenizer, length)
        self.batch, self.length, self.seed = batch, length, seed
        self.rank, self.world = rank, world
        self.pad = pad_id(tokenizer)
        self.index = 0  # pairs dealt out so far, over all ranks
        self.references: Tensor | None = None  # (N, 2), of `kept`
        self.source = pairs
        if isinstance(pairs, Endless):
            self.order = Order(None, seed)
            self.category_names = ("", *categories)
            self.identity = f"{pairs.name}, tokenizer {tokenizer.fingerprint}"
            return
        self.kept = _fitting(pairs, self.fitter, say)
        self.order = Order(len(self.kept), seed)
        named = {pair.category for pair, _ in self.kept} | set(categories)
        self.category_names = ("", *sorted(named - {""}))
        self.identity = _identity(self.kept)

    def with_reference(self, model: nn.Module, batch: int = 32) -> PairStream:
        """Have every batch carry the log-probs that `model` gives both answers.

        Worked out once, without dropout, a batch of like lengths at a time. The model
        is left as it was.
        """
        if isinstance(self.source, Endless):
            raise UserError(
                "reference log-probs are worked out once, but these pairs are made"
                " endlessly; draw a fixed number of them"
            )
        flat = [row for _, rows in self.kept for row in rows]
        found = torch.empty(len(flat))
        by_length = sorted(range(len(flat)), key=lambda i: flat[i].targets)
        for first in range(0, len(flat), batch):
            group = by_length[first : first + batch]
            rows = padded([flat[i] for i in group], self.pad)
            found[group] = answer_logprobs(model, rows)
        self.references = found.view(-1, 2)
        return self

    def __iter__(self) -> PairStream:
        return self

    def __next__(self) -> Batch:
        first = self.index + self.rank * self.batch
        self.index += self.batch * self.world
        cards = self.order.cards(np.arange(first, first + self.batch)).tolist()
        if isinstance(self.source, Endless):
            return self.collate([self._made(self.source, card) for card in cards])
        batch = self.collate([self.kept[card] for card in cards])
        if self.references is not None:
            batch["references"] = self.references[cards].T.reshape(-1)  # (2P,)
        return batch

    def _made(self, source: Endless[Pair], number: int) -> tuple[Pair, RowPair]:
        pair = source.make(number)
        rows = self.fitter(pair)
        if rows is None:
            raise UserError(
                f"length = {self.length}: pair {number} of {source.name} doesn't fit,"
                " or its answers are the same; use a longer context"
            )
        return pair, rows

    def collate(self, pairs: Sequence[tuple[Pair, RowPair]]) -> Batch:
        """The batch of these pairs, without reference log-probs."""
        stacked = [rows.chosen for _, rows in pairs]
        stacked += [rows.rejected for _, rows in pairs]
        names = self.category_names
        for pair, _ in pairs:
            if pair.category not in names:
                known = ", ".join(names[1:]) or "none"
                raise UserError(f"category {pair.category!r}: not among {known}")
        return Batch(
            len(pairs),
            **padded(stacked, self.pad),
            margins=torch.tensor([float(pair.margin) for pair, _ in pairs]),
            categories=torch.tensor([names.index(pair.category) for pair, _ in pairs]),
        )

    def state_dict(self) -> dict[str, Any]:
        """All that must be remembered (JSON): the position, and of what."""
        return {
            "index": self.index,
            "pairs": self.identity,
            "length": self.length,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position; `batch` and `world` may have changed."""
        check_state(state, self.state_dict(), moves={"index"})
        self.index = int(state["index"])


def _fitting(
    pairs: Sequence[Pair], fitter: PairFitter, say: Say
) -> list[tuple[Pair, RowPair]]:
    made = [(pair, fitter(pair)) for pair in pairs]
    if fitter.truncated or fitter.too_long or fitter.equal:
        say(fitter.report())
    kept = [(pair, rows) for pair, rows in made if rows is not None]
    if not kept:
        raise UserError(
            f"length = {fitter.length}: none of {len(pairs)} pairs can be used; use a"
            " longer context or other pairs"
        )
    return kept


def _identity(kept: Sequence[tuple[Pair, RowPair]]) -> str:
    digest = hashlib.sha256()
    for pair, rows in kept:
        digest.update(f"{pair.margin!r} {pair.category!r} ".encode())
        for row in rows:
            digest.update(np.int64(len(row.ids)).tobytes() + row.ids.tobytes())
            digest.update(row.weights.tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def answer_logprobs(model: nn.Module, batch: Batch) -> Tensor:
    """Summed log-probs of the weighted targets, in evaluation mode: (B,), fp32."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        batch = batch.to(device)
        logprobs = model(batch.inputs, targets=batch.targets).logprobs.float()
        return torch.where(batch.weights > 0, logprobs, 0.0).sum(1).cpu()
    finally:
        model.train(was_training)
