"""Batches of preferences: each chosen answer beside the rejected one.

One layout serves reward models, which are asked at the end of a turn, and DPO, which
asks for the log-probs of an answer. Row 2i is chosen, row 2i + 1 is rejected, so an
even cut through a batch tears no pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.layout import lay_out, respond
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
)
from folio.text.tokenizer import Tokenizer


class RowPair(NamedTuple):
    """Both answers after their prompt; only the answers have weight."""

    chosen: Row
    rejected: Row


class PairFitter:
    """Pairs to rows of at most `length` ids, counting what that cost.

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
        excess = max(len(chosen.ids), len(rejected.ids)) - self.length
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


def read_whole(rows: Sequence[Row], pad: int, masked: bool = False) -> Batch:
    """Rows of which every id is read, the last one too, after which nothing is learned.

    inputs, targets, weights (B, T), T the longest row; ends (B,): the place of each
    row's last id in inputs. `masked`: positions (B, T), -1 on padding; else, how to
    read neighbors' prompts once (see `folio.data.layout`). The denominator is B.

    >>> rows = [make_row([5, 6, 7], [0, 1, 1]), make_row([5, 8], [0, 1])]
    >>> batch = read_whole(rows, pad=0, masked=True)
    >>> for name in ("inputs", "targets", "weights", "positions", "ends"):
    ...     print(f"{name:9}", batch[name].tolist())
    inputs    [[5, 6, 7], [5, 8, 0]]
    targets   [[6, 7, 0], [8, 0, 0]]
    weights   [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    positions [[0, 1, 2], [0, 1, -1]]
    ends      [2, 1]
    """
    shape = (len(rows), max(len(row.ids) for row in rows))
    inputs, targets = (torch.full(shape, pad, dtype=torch.long) for _ in range(2))
    weights = torch.zeros(shape)
    ends = torch.tensor([len(row.ids) - 1 for row in rows])
    for index, row in enumerate(rows):
        end = row.targets
        inputs[index, : end + 1] = torch.from_numpy(row.ids)
        targets[index, :end] = torch.from_numpy(row.ids[1:])
        weights[index, :end] = torch.from_numpy(row.weights[1:])
    batch = Batch(len(rows), inputs=inputs, targets=targets, weights=weights, ends=ends)
    if masked:
        places = torch.arange(shape[1]).expand(shape)
        batch["positions"] = places.where(places <= ends[:, None], -1)
    else:
        starts = (weights != 0).int().argmax(1)
        batch.update(lay_out(inputs, starts, ends + 1))
    return batch


class PairStream:
    """Endless batches of P = `batch` pairs: row 2i chosen, row 2i + 1 rejected.

    inputs, targets, weights (2P, T): inputs are all ids, the end of turn among them;
    weight 1 on a target that is of the answer, its end of turn among them. The last
    input of a row has no target, so weight 0.
    ends (2P,): the place of the end of turn in inputs, where a score is read.
    leads (P,): the pairs' margins.
    categories (P,): places in `category_names`, where "" is the first.
    references (2P,), after `with_reference`: log-probs of the answers, summed.
    positions (2P, T), if `masked`: 0, 1, ..., and -1 on padding. Who looks both ways
    needs them; who looks back never meets padding, which is on the right.
    The denominator is P.

    What doesn't fit is dealt with by `PairFitter`; `say` is told how many. The order
    is the same for any number of ranks, as in TextStream. For pairs that are made
    endlessly, `categories` names what may come, and every pair must fit. Raises
    UserError for pairs of which none fits, and settings that can't be.
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
        masked: bool = False,
        say: Say = print,
    ):
        check_ranks(batch, rank, world)
        self.fitter = PairFitter(tokenizer, length)
        self.batch, self.length, self.seed = batch, length, seed
        self.rank, self.world, self.masked = rank, world, masked
        self.pad, self.say = pad_id(tokenizer), say
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

        Worked out once, without dropout, `batch` rows of like lengths at a time; each
        rank does all, so that they agree whoever deals a pair. The model is left as
        it was. If training runs under autocast, call this under it, too. Raises
        UserError if pairs are made endlessly.
        """
        if isinstance(self.source, Endless):
            raise UserError(
                "reference log-probs are worked out once, but these pairs are made"
                " endlessly; draw a fixed number of them"
            )
        flat = [row for _, both in self.kept for row in both]
        found = torch.empty(len(flat))
        by_length = sorted(range(len(flat)), key=lambda i: len(flat[i].ids))
        for first in range(0, len(flat), batch):
            group = by_length[first : first + batch]
            rows = read_whole([flat[i] for i in group], self.pad, self.masked)
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
        return self._kept_batch(cards)

    def once(self) -> list[Batch]:
        """Every pair of a fixed number once, in their own order: to measure on."""
        if isinstance(self.source, Endless):
            raise ValueError("pairs that are made endlessly are never all dealt")
        every = list(range(len(self.kept)))
        starts = range(0, len(every), self.batch)
        return [self._kept_batch(every[i : i + self.batch]) for i in starts]

    def _kept_batch(self, cards: list[int]) -> Batch:
        batch = self.collate([self.kept[card] for card in cards])
        if self.references is not None:
            batch["references"] = self.references[cards].view(-1)  # (2P,)
        return batch

    def _made(self, source: Endless[Pair], number: int) -> tuple[Pair, RowPair]:
        pair, truncated = source.make(number), self.fitter.truncated
        rows = self.fitter(pair)
        if rows is None:
            raise UserError(
                f"length = {self.length}: pair {number} of {source.name} doesn't fit,"
                " or its answers are the same; use a longer context"
            )
        if not truncated and self.fitter.truncated:
            self.say(
                f"pair {number} of {source.name} is longer than the context of"
                f" {self.length}: it, and others like it, lose the beginning of their"
                " prompt"
            )
        return pair, rows

    def collate(self, pairs: Sequence[tuple[Pair, RowPair]]) -> Batch:
        """The batch of these pairs, without reference log-probs."""
        names = self.category_names
        for pair, _ in pairs:
            if pair.category not in names:
                known = ", ".join(names[1:]) or "none"
                raise UserError(f"category {pair.category!r}: not among {known}")
        rows = [row for _, both in pairs for row in both]  # chosen, rejected, ...
        return Batch(
            len(pairs),
            **read_whole(rows, self.pad, self.masked),
            leads=torch.tensor([float(pair.margin) for pair, _ in pairs]),
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
    """Summed log-probs of the weighted targets, in evaluation mode: (B,), fp32.

    batch: inputs, targets, weights (B, T), and positions if the model must know them.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        batch = batch.to(device)
        where = batch.weights > 0
        output = respond(model, batch, targets=batch.targets, where=where)
        return torch.where(where, output.logprobs.float(), 0.0).sum(1).cpu()
    finally:
        model.train(was_training)
