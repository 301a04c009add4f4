"""Where the tokens of a call go in the pages, and which pages its queries look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from folio.infer.paged import PagedStore

# PyTorch's kernel for CPUs adds up keys in blocks of 512 and lanes of 16. Where a key
# falls among these must not depend on other rows, or the last bits of a sum would. MKL
# on Intel splits sums of more than 384 by their length: above 256 all blocks are whole.
BLOCK, LANES, SHORT = 512, 16, 256
ROOM = 8  # a workspace grows by so many pages of each row at once


@dataclass(frozen=True)
class Found:
    """What layers of one kind have to look at in a call, and what is new in it.

    A layer keeps the copy it made for the last call in a workspace for `seats` rows of
    `room` pages. If that call had the number `since`, it writes the new tokens into
    `slots` of the workspace and copies `fresh` pages alone again, to `places`.
    """

    pages: Tensor  # (B P,)
    positions: Tensor  # (B, S) of what is there
    held: np.ndarray  # (B, P), `pages` on the host
    clock: int
    number: int
    seats: int = 0  # none: the copy isn't kept
    room: int = 0
    since: int = 0
    slots: Tensor | None = None  # (B,) in the workspace, whose rows follow one another
    places: Tensor | None = None  # (N,) in its pages, likewise
    fresh: Tensor | None = None  # (N,)


class Layout:
    """Where the tokens of one call are stored and where they look: for all layers.

    pages (B, any number) are rows of a page table, positions (B, T) those of the
    tokens, -1 for padding; both on the host, so that no device is waited for.
    """

    def __init__(self, store: PagedStore, pages: np.ndarray, positions: np.ndarray):
        self.store, self.pages, self.positions = store, pages, positions
        size = store.page_size
        column = np.maximum(positions, 0) // size
        page = np.take_along_axis(pages, column, 1)
        real = positions >= 0
        if not (page > 0)[real].all():
            raise IndexError("a position has no page: the table wasn't grown for it")
        self.written, self.before = page, store.changed[page]  # (B, T)
        store.mark(page[real])
        slots = np.where(real, page * size + positions % size, 0).reshape(-1)
        self.slots = self._to_device(slots)  # (B T,)
        flat = self._to_device(positions.reshape(-1))
        store.positions.view(-1).index_copy_(0, self.slots, flat)
        self.found: dict[tuple[int, int] | None, Found] = {}

    def keys(self, window: int | None, sinks: int) -> Found:
        """The pages that a layer has to read.

        Layers of one kind get the same tensors, so their masks are made once.
        """
        kind = None if window is None else (window, sinks)
        if kind not in self.found:
            columns = self._columns(window, sinks)
            if columns is None:  # the window leaves nothing out yet
                self.found[kind] = self.keys(None, 0)
            else:
                self.found[kind] = self._look_up(kind, columns)
        return self.found[kind]

    def _columns(self, window: int | None, sinks: int) -> np.ndarray | None:
        """Columns (B, P) of the table that tokens at these positions may see.

        None where a windowed layer needs the same as one that sees everything.
        """
        size = self.store.page_size
        last = self.positions.max(1, initial=0) // size  # (B,)
        if window is None:
            return np.broadcast_to(
                np.arange(last.max() + 1), (len(last), last.max() + 1)
            )
        unseen = np.where(self.positions < 0, np.iinfo(np.int64).max, self.positions)
        first = np.minimum(unseen.min(1), self.positions.max(1, initial=0))
        first = np.maximum(first - window + 1, 0) // size  # (B,) first page seen
        kept, block = -(-sinks // size), max(BLOCK // size, 1)
        # Sinks keep whole blocks for themselves, as if the rest of those had gone by.
        own = -(-kept // block) * block
        start = np.maximum(first // block * block, own)
        if not (start > own).any():
            return None
        count = max(int((last - start).max()) + 1, 1)
        moved = start[:, None] + np.arange(count)
        ahead = np.tile(np.arange(own), (len(last), 1))
        ahead[start > own, kept:] = self.pages.shape[1]  # beyond the table: empty
        return np.concatenate([ahead, moved], 1)

    def _look_up(self, kind: tuple[int, int] | None, columns: np.ndarray) -> Found:
        size = self.store.page_size
        on_cpu = torch.device(self.store.device).type == "cpu"
        long = on_cpu and columns.shape[1] * size > SHORT
        slots = BLOCK if long else LANES
        step = slots // math.gcd(size, slots)
        count = -(-columns.shape[1] // step) * step
        held = columns < self.pages.shape[1]
        inside = np.where(held, columns, 0)
        found = np.zeros((len(columns), count), dtype=np.int64)
        found[:, : columns.shape[1]] = np.where(
            held, np.take_along_axis(self.pages, inside, 1), 0
        )
        index = self._to_device(found.reshape(-1))
        positions = self.store.positions.index_select(0, index)
        positions = positions.view(len(columns), -1)
        number = next(self.store.numbers)
        reading = self.positions >= 0
        decoding = reading.shape[1] == 1 and (reading[:, 0] == found.any(1)).all()
        news = self._news(kind, found) if decoding else {}
        result = Found(index, positions, found, self.store.clock, number, **news)
        if result.seats:
            self.store.looked[kind] = result
        return result

    def _news(self, kind: tuple[int, int] | None, found: np.ndarray) -> dict:
        """Rows that decode look at the same pages again and again: what changed?

        The copies that layers keep take no more memory than the store itself.
        """
        before = self.store.looked.get(kind)
        if before is None or not _holds(before, found):
            return self._workspace(*found.shape)
        rows, room = len(found), before.room
        there = tuple(map(min, found.shape, before.held.shape))  # then and now
        there = tuple(map(slice, there))
        # Of pages that change only now, the new token is enough.
        own = (found == self.written) & (found > 0)
        changed = np.where(own, self.before, self.store.changed[found])
        stale = np.ones(found.shape, dtype=bool)
        stale[there] = (changed > before.clock)[there]
        stale[there] |= found[there] != before.held[there]
        row, column = stale.nonzero()
        size = self.store.page_size
        slots = np.arange(rows) * room + own.argmax(1)
        slots = slots * size + np.maximum(self.positions[:, 0], 0) % size
        return {
            "seats": before.seats,
            "room": room,
            "since": before.number,
            "slots": self._to_device(slots),
            "places": self._to_device(row * room + column),
            "fresh": self._to_device(found[row, column]),
        }

    def _workspace(self, rows: int, count: int) -> dict[str, int]:
        """Room for copies that are to grow, if the store has as much as they take."""
        room = -(-(count + 1) // ROOM) * ROOM
        for seats in (1 << (rows - 1).bit_length(), rows):
            if seats * room < len(self.store.changed):
                return {"seats": seats, "room": room}
        return {}

    def _to_device(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.store.device)


def _holds(before: Found, found: np.ndarray) -> bool:
    """Whether a workspace has room for these rows (B, P)."""
    rows, count = found.shape
    return rows <= before.seats and count <= before.room
