"""Caches of pages: rows of any length beside one another, from one block of memory."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from folio.infer.page_layout import Found, Layout
from folio.model.config import ModelConfig


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
