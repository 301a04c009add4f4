"""Key/value caches: what generation remembers, so that each token is read once."""

from __future__ import annotations

import torch
from torch import Tensor

from folio.model.config import ModelConfig


class FullCache:
    """Remember everything, in one buffer of fixed size; slot = position."""

    def __init__(
        self,
        batch: int,
        heads: int,
        capacity: int,
        width: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        shape = (batch, heads, capacity, width)
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.positions = torch.full((batch, capacity), -1, device=device)

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Store k, v (B, G, T, K) at positions (B, T); return the whole buffers."""
        slot = positions[:, None, :, None].expand_as(k)
        self.k.scatter_(2, slot, k)
        self.v.scatter_(2, slot, v)
        self.positions.scatter_(1, positions, positions)
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
