"""A plain batch in pages: rows of any lengths, for whoever has no engine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from folio.infer.page_layout import Layout
from folio.infer.paged import PagedCache, PagedStore, shortest_reach
from folio.infer.pages import PagePool, PageTable
from folio.model.config import ModelConfig


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
