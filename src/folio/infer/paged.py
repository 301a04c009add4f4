"""Caches of pages: rows of any length beside one another, from one block of memory."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from folio.infer.pages import PagePool, PageTable
from folio.model.config import ModelConfig

# PyTorch's kernel for CPUs adds up keys in blocks of 512 and lanes of 16. Where a key
# falls among these must not depend on other rows, or the last bits of a sum would. MKL
# on Intel splits sums of more than 384 by their length: above 256 all blocks are whole.
BLOCK, LANES, SHORT = 512, 16, 256
ROOM = 8  # a workspace grows by so many pages of each row at once


def page_bytes(config: ModelConfig, page_size: int, dtype: torch.dtype) -> int:
    """Bytes of one page: keys and values of all layers, and its tokens' positions."""
    heads, *widths = config.cache_shape
    numbers = config.n_layers * heads * sum(widths)
    return page_size * (numbers * dtype.itemsize + 8)


def shortest_reach(config: ModelConfig) -> tuple[int, int] | None:
    """(window, sinks) if no layer sees further, so that pages can be given back."""
    if None in config.layer_windows:
        return None
    return config.window, config.sinks


class PagedStore:
    """The memory itself: keys, values and positions of all pages, in all layers."""

    def __init__(
        self,
        config: ModelConfig,
        pages: int,
        page_size: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.config, self.page_size, self.device = config, page_size, device
        heads, *widths = config.cache_shape
        self.keys, self.values = (
            torch.zeros(
                (config.n_layers, heads, pages + 1, page_size * width),
                device=device,
                dtype=dtype,
            )
            for width in widths
        )
        self.positions = torch.full((pages + 1, page_size), -1, device=device)
        self.clock = 0  # of the latest change
        self.changed = np.zeros(pages + 1, dtype=np.int64)  # when each page was
        self.looked: dict[tuple[int, int] | None, Found] = {}  # by the last call
        self.numbers = itertools.count(1)

    def mark(self, pages: list[int] | np.ndarray) -> None:
        """Remember that these pages change now; page 0, which nobody sees, never."""
        self.clock += 1
        self.changed[pages] = self.clock
        self.changed[0] = 0

    def clear(self, pages: list[int]) -> None:
        """Make pages as new: nothing of one request is ever read by another.

        Zeros, too, since an unseen NaN or infinity times a weight of 0 is a NaN.
        """
        if pages:
            self.mark(pages)
            index = torch.tensor(pages, device=self.device)
            self.positions.index_fill_(0, index, -1)
            self.keys.index_fill_(2, index, 0.0)
            self.values.index_fill_(2, index, 0.0)

    def caches(
        self, layout_of: Callable[[Tensor], Layout], in_place: bool = False
    ) -> list[PagedCache]:
        """One cache per layer; `layout_of` says where the tokens of a call go.

        in_place: where that is possible, single tokens attend to pages as they lie.
        """
        in_place = in_place and can_attend_in_place(self)
        return [
            PagedCache(keys, values, window, self.config.sinks, layout_of, in_place)
            for keys, values, window in zip(
                self.keys, self.values, self.config.layer_windows, strict=True
            )
        ]


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


def can_attend_in_place(store: PagedStore) -> bool:
    """Whether there is a compiled kernel for such scores in such memory."""
    module, config = page_attention(), store.config
    special = config.attention_softcap or config.sinks or config.latent is not None
    on_cpu = torch.device(store.device).type == "cpu"
    return bool(module and on_cpu and not special and store.keys.dtype in module.KINDS)


@cache
def page_attention() -> ModuleType | None:
    """The module of the compiled kernel, or None where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    from folio.infer import page_attention as module

    return module


class InPlace(NamedTuple):
    """A layer's keys and values where they lie; what `Kept` of attend.py asks for."""

    keys: Tensor
    values: Tensor
    layout: Layout
    window: int | None

    def attend(self, q: Tensor, scale: float) -> Tensor:
        """q (B, H, 1, K) -> (B, H, 1, K')."""
        layout, module = self.layout, page_attention()
        return module.attend_pages(
            q,
            module.as_array(self.keys, layout.store.page_size),
            module.as_array(self.values, layout.store.page_size),
            layout.pages,
            layout.positions[:, 0],
            self.window,
            scale,
        )


class PagedCache:
    """What one layer remembers, in pages of one store that all rows draw from.

    `update` writes the new tokens into their rows' pages and gathers what these hold
    into one tensor for the kernel. The copy costs as much as attention to it does; it
    buys that a page exists once, however many prompts begin with it. While rows decode,
    the copy is kept, and only pages that changed are copied again. On a CPU, and with
    plain scores, rows that decode need no copy: see `page_attention.py`.
    """

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        window: int | None,
        sinks: int,
        layout_of: Callable[[Tensor], Layout],
        in_place: bool = False,
    ):
        """keys, values: (G, pages, page_size K), views of the store."""
        self.in_place = in_place
        self.keys, self.values, self.layout_of = keys, values, layout_of
        self.window, self.sinks = window, sinks if window else 0
        self.kept: list[Tensor] = []  # copies of keys, values (G, seats room, ...)
        self.number = 0  # of the call they were made for

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor | InPlace, Tensor | InPlace, Tensor]:
        """Store k, v (B, G, T, K) at positions (B, T); return what is in reach.

        Padding, position -1, is stored nowhere. A row's pages come in the order of
        their text, after them empty slots, whose position is -1. Keys and values are
        valid until the next call.
        """
        layout = self.layout_of(positions)
        self._write(self.keys, k, layout.slots)
        self._write(self.values, v, layout.slots)
        if self.in_place and k.shape[2] == 1:
            kept = InPlace(self.keys, self.values, layout, self.window)
            return kept, kept, positions
        found = layout.keys(self.window, self.sinks)
        if not found.seats:
            copies = [store.index_select(1, found.pages) for store in self._stores()]
        elif self.number == found.since and self.kept:
            copies = self.kept
            for copy, store, new in zip(copies, self._stores(), (k, v), strict=True):
                self._write(copy, new, found.slots)
                if len(found.fresh):
                    pages = store.index_select(1, found.fresh)
                    copy.index_copy_(1, found.places, pages)
        else:
            copies = self.kept = [self._copy(x, found) for x in self._stores()]
        self.number = found.number if found.seats else self.number
        rows, length = found.positions.shape
        count = found.room or found.held.shape[1]
        shape = found.seats or rows, count * layout.store.page_size
        reached = []
        for copy, new in zip(copies, (k, v), strict=True):
            copy = copy.view(len(copy), *shape, new.shape[-1])
            reached.append(copy[:, :rows, :length].transpose(0, 1))
        return *reached, found.positions

    def _stores(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.values

    @staticmethod
    def _write(store: Tensor, new: Tensor, slots: Tensor) -> None:
        """Put `new` (B, G, T, K) into slots (B T,)."""
        groups, width = new.shape[1], new.shape[3]
        slot_count = store.shape[1] * (store.shape[2] // max(width, 1))
        tokens = new.to(store.dtype).transpose(0, 1)
        tokens = tokens.reshape(groups, len(slots), width)
        store.view(groups, slot_count, width).index_copy_(1, slots, tokens)

    @staticmethod
    def _copy(store: Tensor, found: Found) -> Tensor:
        """A workspace (G, seats room, page_size K) with all pages looked at."""
        rows, count = found.held.shape
        groups, _, numbers = store.shape
        copy = store.new_empty((groups, found.seats, found.room, numbers))
        pages = store.index_select(1, found.pages)
        copy[:, :rows, :count] = pages.view(groups, rows, count, numbers)
        return copy.flatten(1, 2)


class PagedRows:
    """A plain batch in pages: each row takes pages of its own as it grows."""

    def __init__(self, store: PagedStore, table: PageTable):
        self.store, self.table = store, table
        self.latest: tuple[Tensor, int, Layout] | None = None

    def layout(self, positions: Tensor) -> Layout:
        """Made by the first layer of a call and found again by the others."""
        if self.latest is not None:
            seen, version, layout = self.latest
            if seen is positions and version == positions._version:
                return layout
        rows = len(self.table.ends)
        shape = rows, positions.shape[1]
        places = np.broadcast_to(positions.cpu().numpy(), shape).copy()
        fresh = []
        for row, new in enumerate(places.tolist()):
            if real := [place for place in new if place >= 0]:
                self.table.give_back(row, min(real))
                fresh += self.table.grow(row, max(real) + 1)
        self.store.clear(fresh)
        layout = Layout(self.store, self.table.pages, places)
        self.latest = positions, positions._version, layout
        return layout


def paged_caches(
    config: ModelConfig,
    batch: int,
    capacity: int,
    page_size: int = 16,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[PagedCache]:
    """One `PagedCache` per layer for a plain batch of rows, a sequence each.

    Rows may differ in length, tokens may come in chunks of any size, and position -1
    is padding. `capacity` is what all rows may hold on average: `batch` times as many
    tokens in all, rounded up to pages, and OutOfPages past that. Where every layer has
    a window, what has left it is given back.
    """
    pages = batch * -(-capacity // page_size)
    store = PagedStore(config, pages, page_size, device, dtype)
    table = PageTable(PagePool(pages), batch, page_size, shortest_reach(config))
    return store.caches(PagedRows(store, table).layout)
