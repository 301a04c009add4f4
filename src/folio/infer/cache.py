"""Key/value caches: what generation remembers, so that each token is read once."""

from __future__ import annotations

import torch
from torch import Tensor

from folio.model.config import ModelConfig


class FullCache:
    """Remember everything, in one buffer of fixed size; slot = position.

    One slot more than `capacity` takes the padding: position -1 indexes the last slot
    as it would in a list, and the -1 stored there keeps it unseen.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        capacity: int,
        width: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        shape = (batch, heads, capacity + 1, width)
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.positions = torch.full((batch, capacity + 1), -1, device=device)
        self.rows = torch.arange(batch, device=device)[:, None]  # (B, 1)

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Store k, v (B, G, T, K) at positions (B, T); return the whole buffers."""
        k, v = k.to(self.k.dtype), v.to(self.v.dtype)  # autocast makes them smaller
        self.k[self.rows, :, positions] = k.transpose(1, 2)  # (B, T, G, K)
        self.v[self.rows, :, positions] = v.transpose(1, 2)
        self.positions[self.rows, positions] = positions
        return self.k, self.v, self.positions


def full_caches(
    config: ModelConfig,
    batch: int,
    capacity: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[FullCache]:
    """One `FullCache` per layer."""
    return [
        FullCache(batch, config.kv_heads, capacity, config.head_width, device, dtype)
        for _ in range(config.n_layers)
    ]
