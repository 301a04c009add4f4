"""Key/value caches: what generation remembers, so that each token is read once.

Two of them have a fixed size: `FullCache` remembers everything up to its capacity,
`RollingCache` only what a window and its sinks still see, however long the text.
Layers that remember alike share the record of which position lies in which slot, so
that one mask serves them all (`folio.model.mask.Masks`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from folio.model.config import ModelConfig


def _storage(
    slots: tuple[int, int, int],
    width: int,
    value_width: int | None,
    device: torch.device | str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Room for keys and values: (B, G, S, K) and (B, G, S, value width)."""
    value_width = width if value_width is None else value_width
    keys = torch.zeros((*slots, width), device=device, dtype=dtype)
    return keys, torch.zeros((*slots, value_width), device=device, dtype=dtype)


class FullCache:
    """Remember everything, in one buffer of fixed size; slot = position.

    One slot more than `capacity` takes the padding: position -1 indexes the last slot
    as it would in a list, and the -1 stored there keeps it unseen. `beside` is the
    cache of another layer of the same model, whose positions this one shares: every
    layer writes the same into them.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        capacity: int,
        width: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        beside: FullCache | None = None,
        value_width: int | None = None,
    ):
        """value_width: of values, where it differs from that of keys."""
        self.k, self.v = _storage(
            (batch, heads, capacity + 1), width, value_width, device, dtype
        )
        self.positions = torch.full((batch, capacity + 1), -1, device=device)
        self.rows = torch.arange(batch, device=device)[:, None]  # (B, 1)
        if beside is not None:
            self.positions, self.rows = beside.positions, beside.rows

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Store k, v (B, G, T, K) at positions (B, T); return the whole buffers."""
        k, v = k.to(self.k.dtype), v.to(self.v.dtype)  # autocast makes them smaller
        self.k[self.rows, :, positions] = k.transpose(1, 2)  # (B, T, G, K)
        self.v[self.rows, :, positions] = v.transpose(1, 2)
        self.positions[self.rows, positions] = positions
        return self.k, self.v, self.positions


class Ring:
    """Which position lies in which slot, for the rolling caches of one model.

    The sinks keep the first slots; behind them a token takes the place of the one
    that left the window when it came. Slot -1, the last, takes what nobody will see.

    >>> ring = Ring(batch=1, window=3, sinks=1)
    >>> ring.slots(torch.tensor([[0, 1, 2, 3, 4, -1]]))
    tensor([[ 0,  1,  2,  3,  1, -1]])
    """

    def __init__(
        self, batch: int, window: int, sinks: int, device: torch.device | str = "cpu"
    ):
        self.window, self.sinks = window, sinks
        self.positions = torch.full((batch, sinks + window + 1), -1, device=device)
        self.rows = torch.arange(batch, device=device)[:, None]  # (B, 1)
        self.chunk: Chunk | None = None

    def slots(self, positions: Tensor) -> Tensor:
        """(B, T) -> (B, T)."""
        rolled = self.sinks + (positions - self.sinks) % self.window
        return torch.where(positions < self.sinks, positions, rolled)

    def begin(self, positions: Tensor) -> None:
        """Let several tokens (B, T) in, whose keys the layers bring one by one."""
        positions = positions.expand(len(self.positions), -1)
        newest = positions.amax(1, keepdim=True)
        passed = (positions >= self.sinks) & (positions <= newest - self.window)
        slots = self.slots(positions).masked_fill(passed, -1)
        self.chunk = Chunk(slots, torch.cat([self.positions, positions], 1))
        self.positions[self.rows, slots] = positions.masked_fill(passed, -1)


class Chunk:
    """Several tokens that come at once: a value of its own for each call."""

    def __init__(self, slots: Tensor, positions: Tensor):
        self.slots = slots  # (B, T), -1 for those that are gone when the chunk ends
        self.positions = positions  # (B, S + T): all that was there, and the chunk


class RollingCache:
    """Remember the first `sinks` tokens and the last `window`, in a ring.

    Memory is constant however long the text (Xiao et al. 2023, StreamingLLM). A single
    token overwrites the one key that nobody sees any more. Several at once see old keys
    and all of their own before any is forgotten, so a chunk may exceed the window. The
    tokens of a row come in the order of the text from call to call. `beside`: the
    cache of another layer of the same model, with which the ring is shared.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        window: int,
        sinks: int,
        width: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        beside: RollingCache | None = None,
        value_width: int | None = None,
    ):
        """value_width: of values, where it differs from that of keys."""
        self.k, self.v = _storage(
            (batch, heads, sinks + window + 1), width, value_width, device, dtype
        )
        self.ring = (
            Ring(batch, window, sinks, device) if beside is None else beside.ring
        )
        self.chunk = self.ring.chunk  # the newest that this layer has stored

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Store k, v (B, G, T, K) at positions (B, T); return all that may be seen."""
        k, v = k.to(self.k.dtype), v.to(self.v.dtype)
        if k.shape[2] > 1:
            return self._update_by_chunk(k, v, positions)
        slots, ring = self.ring.slots(positions), self.ring
        self._store(k, v, slots)
        ring.positions[ring.rows, slots] = positions  # each layer writes the same
        return self.k, self.v, ring.positions

    def _update_by_chunk(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.chunk is self.ring.chunk:  # no other layer has begun the next one
            self.ring.begin(positions)
        self.chunk = self.ring.chunk
        all_k, all_v = torch.cat([self.k, k], 2), torch.cat([self.v, v], 2)
        self._store(k, v, self.chunk.slots)
        return all_k, all_v, self.chunk.positions  # (B, G, S + T, K), (B, S + T)

    def _store(self, k: Tensor, v: Tensor, slots: Tensor) -> None:
        rows = self.ring.rows
        self.k[rows, :, slots] = k.transpose(1, 2)  # (B, T, G, K)
        self.v[rows, :, slots] = v.transpose(1, 2)


def make_caches(
    config: ModelConfig,
    batch: int,
    capacity: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[FullCache | RollingCache]:
    """One cache per layer for texts of up to `capacity` tokens.

    A layer whose window and sinks are smaller than that gets a rolling one; if all
    layers do, there is no end to the text.
    """
    (heads, width, value_width), sinks = config.cache_shape, config.sinks
    kind = {"device": device, "dtype": dtype, "value_width": value_width}
    full = rolling = None  # the newest of each kind, whose positions the next shares
    caches = []
    for window in config.layer_windows:
        if window is None or window + sinks >= capacity:
            full = FullCache(batch, heads, capacity, width, **kind, beside=full)
            caches.append(full)
        else:
            rolling = RollingCache(
                batch, heads, window, sinks, width, **kind, beside=rolling
            )
            caches.append(rolling)
    return caches
