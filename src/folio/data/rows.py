"""A conversation as one training row, and rows as a batch.

Rows keep what is learned: where a conversation is longer than the context, its
beginning goes. The end of a finished answer, by which a model learns to stop, stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.layout import answers_laid_out
from folio.data.packing import pack
from folio.text.chat import ChatTemplate, Message
from folio.text.tokenizer import Tokenizer

Overlong = Literal["truncate", "drop"]
PAD = "<|pad|>"


class Row(NamedTuple):
    """ids (n,) and, for each, whether it is to be learned (n,)."""

    ids: np.ndarray
    weights: np.ndarray

    @property
    def targets(self) -> int:
        """How long the row is in a batch: every id but the first is a target."""
        return len(self.ids) - 1


def encode(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    where: str = "",
    add_generation_prompt: bool = False,
) -> tuple[list[int], list[float]]:
    """(ids, weights) by the tokenizer's chat template; errors begin with `where`."""
    try:
        template = ChatTemplate.of(tokenizer)
        return template.render(messages, tokenizer, add_generation_prompt)
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None


def check_overlong(overlong: str, length: int) -> None:
    """Raise a UserError for a length or a way of shortening that can't be."""
    if length < 1:
        raise UserError(f"length = {length}: must be at least 1")
    if overlong not in ("truncate", "drop"):
        raise UserError(f"overlong = {overlong!r}: choose 'truncate' or 'drop'")


def make_row(ids: Sequence[int], weights: Sequence[float]) -> Row:
    """Without what follows the last learned token: it can't teach anything.

    >>> make_row([5, 6, 7, 8], [0, 1, 1, 0])
    Row(ids=array([5, 6, 7]), weights=array([0., 1., 1.], dtype=float32))
    """
    learned = np.flatnonzero(weights)
    if not len(learned):
        raise ValueError("no token of this conversation is learned")
    stop = int(learned[-1]) + 1
    return Row(
        np.asarray(ids[:stop], dtype=np.int64),
        np.asarray(weights[:stop], dtype=np.float32),
    )


def last_answer(weights: np.ndarray) -> int:
    """Where the last run of learned tokens begins.

    >>> last_answer(np.array([0, 1, 0, 0, 1, 1]))
    4
    """
    return int(np.flatnonzero(weights == 0)[-1]) + 1 if (weights == 0).any() else 0


def cut_left(row: Row, count: int) -> Row:
    """The row without its first `count` tokens.

    An answer that loses its beginning is context from then on, and not learned: the
    model would be told to begin in the middle.

    >>> cut_left(make_row([1, 2, 3, 4, 5, 6], [0, 1, 1, 0, 1, 1]), 2)
    Row(ids=array([3, 4, 5, 6]), weights=array([0., 0., 1., 1.], dtype=float32))
    """
    if count <= 0:
        return row
    ids, weights = row.ids[count:], row.weights[count:].copy()
    if row.weights[count]:
        whole = np.flatnonzero(weights == 0)
        weights[: whole[0] if len(whole) else len(weights)] = 0
    return Row(ids, weights)


def fit(row: Row, length: int, overlong: Overlong = "truncate") -> Row | None:
    """The row with at most `length` targets, or None if it can't be kept.

    The last answer stays whole, with the token that opens it.
    """
    excess = row.targets - length
    if excess <= 0:
        return row
    if overlong == "drop" or excess >= last_answer(row.weights):
        return None
    return cut_left(row, excess)


def pad_id(tokenizer: Tokenizer) -> int:
    """What fills rows up: the pad token, never the one that ends a turn.

    Whoever has no pad token gets id 0. Weights, not ids, say what is padding.
    """
    return tokenizer.special_tokens.get(PAD, 0)


def padded(rows: Sequence[Row], pad: int) -> Batch:
    """One conversation a row, filled up on the right, where no token looks.

    inputs, targets, weights (B, T) with T the longest row; and how to read them
    without what they are filled up with (see `folio.data.layout`).
    """
    width = max(row.targets for row in rows)
    inputs = torch.full((len(rows), width), pad, dtype=torch.long)
    targets = torch.full((len(rows), width), pad, dtype=torch.long)
    weights = torch.zeros(len(rows), width)
    for index, row in enumerate(rows):
        put(inputs, targets, weights, index, 0, row)
    return Batch(
        weights.sum().item(),
        inputs=inputs,
        targets=targets,
        weights=weights,
        **answers_laid_out(inputs, weights),
    )


def pack_rows(rows: Sequence[Row], length: int) -> list[list[Row]]:
    """Rows that share one of `length` targets, as few as they fit into (see `pack`)."""
    groups = pack([row.targets for row in rows], length)
    return [[rows[i] for i in group] for group in groups]


def packed(rows: Sequence[Sequence[Row]], pad: int) -> Batch:
    """Several conversations a row, none of which sees another.

    inputs, targets, weights, positions, documents (B, T). A conversation's last token
    is no input, so no target crosses a border. Padding has position and document -1.
    """
    width = max(sum(row.targets for row in group) for group in rows)
    shape = (len(rows), width)
    inputs = torch.full(shape, pad, dtype=torch.long)
    targets = torch.full(shape, pad, dtype=torch.long)
    weights = torch.zeros(shape)
    positions = torch.full(shape, -1, dtype=torch.long)
    documents = torch.full(shape, -1, dtype=torch.long)
    for index, group in enumerate(rows):
        start = 0
        for document, row in enumerate(group):
            put(inputs, targets, weights, index, start, row)
            stop = start + row.targets
            positions[index, start:stop] = torch.arange(row.targets)
            documents[index, start:stop] = document
            start = stop
    return Batch(
        weights.sum().item(),
        inputs=inputs,
        targets=targets,
        weights=weights,
        positions=positions,
        documents=documents,
    )


def put(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    index: int,
    start: int,
    row: Row,
) -> None:
    """Write a row, shifted by one, into row `index` of the batch from `start` on."""
    stop = start + row.targets
    inputs[index, start:stop] = torch.from_numpy(row.ids[:-1])
    targets[index, start:stop] = torch.from_numpy(row.ids[1:])
    weights[index, start:stop] = torch.from_numpy(row.weights[1:])
