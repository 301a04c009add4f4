"""From sequences to tensors and back: what one call of the model reads and yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from folio.infer.pages import PageTable
from folio.infer.request import Token
from folio.infer.sampling import Sampling, pick
from folio.infer.scheduler import LEAST, power_of_two
from folio.infer.sequence import Sequence as Sample
from folio.model.decoder import Decoder
from folio.runtime import doubles

# With fewer rows than this, MKL's fp32 products take other paths, whose last bits
# differ; from here on each row comes out the same in any number of them (measured on
# 1 to 512 rows, one and two threads).
LEAST_ROWS = 4
MOST_EMPTY = 0.25  # of the seats: reading for nobody costs less than moving, till then


@dataclass
class Batch:
    """Some tokens of some sequences, in the shape the model reads them."""

    sequences: list[Sample]
    ends: list[int]  # how far each will have been read
    tokens: np.ndarray  # (B, T); B may be more than there are sequences
    positions: np.ndarray  # (B, T), -1 for padding
    pages: np.ndarray  # (B, any number)
    asking: list[Sample]  # whose text has then been read whole
    asking_rows: list[int]  # of the tensors, where these are
    asking_columns: list[int]  # and their last tokens


class Seats:
    """Which row of the batch is whose while they decode: the same from step to step.

    The caches keep copies of what a row has read, and whoever moves to another row is
    copied anew. So a place that gets free stays empty until somebody new comes, or
    until so many are empty that all move together.
    """

    def __init__(self) -> None:
        self.taken: list[int | None] = []  # of each seat, the row of the page table

    def of(self, rows: Sequence[int]) -> list[int]:
        """A seat for each row of the table.

        >>> seats = Seats()
        >>> seats.of([5, 6, 7, 8, 9])
        [0, 1, 2, 3, 4]
        >>> seats.of([5, 7, 8, 9]), seats.of([5, 7, 8, 9, 3])
        ([0, 2, 3, 4], [0, 2, 3, 4, 1])
        >>> seats.of([7, 8, 9])
        [0, 1, 2]
        """
        staying = set(rows)
        self.taken = [row if row in staying else None for row in self.taken]
        sitting = set(self.taken)
        new = iter([row for row in rows if row not in sitting])
        filled = [next(new, None) if row is None else row for row in self.taken]
        filled += new
        there = [row for row in filled if row is not None]
        crowded = MOST_EMPTY * len(filled) >= len(filled) - len(there)
        self.taken = filled if crowded else there
        seats = {row: seat for seat, row in enumerate(self.taken)}
        return [seats[row] for row in rows]


def make_batch(
    parts: Sequence[tuple[Sample, int]],
    table: PageTable,
    seats: Sequence[int] | None = None,
    rows: int = 0,
) -> Batch:
    """Sequences with how far to read each, padded to no fewer than `rows` rows.

    Single tokens make a batch one wide, chunks one as wide as a power of two. The i-th
    sequence is in row seats[i], if given, else in row i.
    """
    sequences, ends = [s for s, _ in parts], [end for _, end in parts]
    lengths = [end - s.computed for s, end in parts]
    single = all(not s.reading_prompt for s in sequences)
    width = 1 if single else max(power_of_two(max(lengths)), LEAST)
    seats = range(len(parts)) if seats is None else seats
    count = max(seats) + 1
    if single:
        count = max(-(-count // LEAST_ROWS) * LEAST_ROWS, rows)
    tokens = np.zeros((count, width), dtype=np.int64)
    positions = np.full((count, width), -1, dtype=np.int64)
    held = np.full(count, len(table.ends) - 1)  # the table's last row holds nothing
    held[seats] = [s.row for s in sequences]
    if single:
        start = [s.computed for s in sequences]
        tokens[seats, 0] = [s.ids[i] for s, i in zip(sequences, start, strict=True)]
        positions[seats, 0] = start
    else:
        for row, (sequence, end) in zip(seats, parts, strict=True):
            start = sequence.computed
            tokens[row, : end - start] = sequence.ids[start:end]
            positions[row, : end - start] = np.arange(start, end)
    asking = [i for i, (s, end) in enumerate(parts) if end == len(s.ids)]
    return Batch(
        sequences,
        ends,
        tokens,
        positions,
        table.pages[held],
        asking=[sequences[i] for i in asking],
        asking_rows=[seats[i] for i in asking],
        asking_columns=[lengths[i] - 1 for i in asking],
    )


def choose_tokens(
    model: Decoder, hidden: Tensor, asking: list[Sample], vocab_size: int
) -> list[Token]:
    """The next token of each sequence, from their last hidden states (B, D).

    Rows that sample alike go through the sampler together, and all results come to
    the host in one piece.
    """
    if len(hidden) < LEAST_ROWS:
        hidden = torch.cat([hidden, hidden[:1].expand(LEAST_ROWS - len(hidden), -1)])
    logits = model.read(hidden)[: len(asking), :vocab_size].float()
    for row, sequence in enumerate(asking):
        if sequence.steer is not None:
            logits[row] = sequence.steered(logits[row])
    groups: dict[Sampling, list[int]] = {}
    for row, sequence in enumerate(asking):
        groups.setdefault(sequence.sampling, []).append(row)
    top = max(sequence.top for sequence in asking)
    top = min(top, logits.shape[-1])
    found = [
        _choose_alike(logits, [asking[i] for i in members], members, top)
        for members in groups.values()
    ]
    order = [row for members in groups.values() for row in members]
    tokens: list[Token] = [None] * len(asking)
    for row, numbers in zip(order, torch.cat(found).tolist(), strict=True):
        tokens[row] = _token(numbers, top, asking[row].top)
    return tokens


def _choose_alike(
    logits: Tensor, sequences: list[Sample], rows: list[int], top: int
) -> Tensor:
    """(rows, 2 + 2 top): token, its log-prob, the likeliest, theirs; doubles are exact
    for both."""
    if len(rows) < len(logits):
        logits = logits[torch.tensor(rows, device=logits.device)]
    sampling, device = sequences[0].sampling, logits.device
    chances = seen = None
    if sampling.temperature > 0:
        chances = [s.next_chance() for s in sequences]
        chances = torch.tensor(chances, dtype=torch.float64)
    if sampling.repetition_penalty != 1.0:
        seen = [s.seen_ids(logits.shape[-1], device) for s in sequences]
        seen = torch.stack(seen)
    picked = pick(logits, sampling, chances, seen, top)
    ids = torch.cat([picked.tokens[:, None], picked.top], 1)
    logprobs = torch.cat([picked.logprobs[:, None], picked.top_logprobs], 1)
    return torch.cat([doubles(ids), doubles(logprobs)], 1)


def _token(numbers: list[float], top: int, wanted: int) -> Token:
    """One row of `_choose_alike`, without alternatives that the cuts left out."""
    ids, logprobs = numbers[: 1 + top], numbers[1 + top :]
    likeliest = tuple(
        (int(i), logprob)
        for i, logprob in zip(
            ids[1 : 1 + wanted], logprobs[1 : 1 + wanted], strict=True
        )
        if logprob > float("-inf")
    )
    return Token(int(ids[0]), logprobs[0], likeliest)
