"""Attention: each token asks the earlier ones, and mixes what they answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from folio.model.attend import Path, attend, attention_weights, share_keys
from folio.model.config import ModelConfig
from folio.model.mask import Mask, Masks
from folio.model.norm import RMSNorm
from folio.model.positions import Angles, rotate


class Cache(Protocol):
    """What one layer remembers of the keys and values it has seen."""

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Store new k, v (B, G, T, K) at positions (B, T); return all that is kept.

        The result is keys and values (B, G, S, K) and their positions (B, S), -1
        for an empty slot. `ModelConfig.cache_shape` tells G and both widths, which
        differ in latent attention.
        """


class Notes:
    """What layers leave for the end of a forward: a list that nobody looks into.

    FSDP gives each block a copy of lists and dataclasses that hold tensors with a
    gradient; what a block added to a copy would be lost.
    """

    def __init__(self) -> None:
        self.all: list[Tensor] = []

    def append(self, note: Tensor) -> None:
        self.all.append(note)


@dataclass
class Shared:
    """What all layers of one forward share, and what they leave for its end."""

    positions: Tensor  # (B, T), -1 for padding
    masks: Masks
    rotary: Callable[[Tensor], Angles] | None = None
    angles: Angles | None = None  # of `positions`
    router_losses: Notes = field(default_factory=Notes)  # (B,), one per layer
    sink_angles: dict[int, Angles] = field(default_factory=dict)

    @property
    def router_loss(self) -> Tensor | None:
        """What all routers ask for, (B,); None where there are none, or no training."""
        losses = self.router_losses.all
        return torch.stack(losses).sum(0) if losses else None

    def angles_for_sinks(self, reach: int) -> Angles:
        """Angles of queries that stand no further than `reach` from the start."""
        if reach not in self.sink_angles:
            self.sink_angles[reach] = self.rotary(self.positions.clamp(max=reach))
        return self.sink_angles[reach]


class Attention(nn.Module):
    """Multi-head attention; with fewer key/value heads, grouped-query attention.

    A windowed layer sees the last `window` tokens, and the first `sinks` besides,
    onto which models park attention that they have no use for (Xiao et al. 2023,
    StreamingLLM). Rotary positions place those right before the window, however far
    it has gone, so that no distance is met that training hasn't shown.
    """

    def __init__(self, config: ModelConfig, window: int | None = None):
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.kv_heads
        self.head_width, self.dropout = config.head_width, config.dropout
        self.window, self.sinks = window, config.sinks if window else 0
        self.scale = config.attention_scale or 1 / math.sqrt(self.head_width)
        self.softcap = config.attention_softcap
        self.path: Path | None = None  # of `attend`; none: the fastest
        width = self.n_heads * self.head_width
        kv_width = self.n_kv_heads * self.head_width
        bias = config.bias if config.qkv_bias is None else config.qkv_bias
        self.query = nn.Linear(config.d_model, width, bias=bias)
        self.key = nn.Linear(config.d_model, kv_width, bias=bias)
        self.value = nn.Linear(config.d_model, kv_width, bias=bias)
        self.out = nn.Linear(width, config.d_model, bias=config.bias)
        self.query_norm = self.key_norm = None
        if config.qk_norm:  # Dehghani et al. 2023: scores can't grow without limit
            self.query_norm = RMSNorm(self.head_width, config.norm_eps)
            self.key_norm = RMSNorm(self.head_width, config.norm_eps)

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q, k, v = self.project(x)
        turned, k = self.turn(q, k, shared.angles)
        key_positions = shared.positions
        if cache is not None:
            k, v, key_positions = cache.update(k, v, shared.positions)
        mask = shared.masks.of(key_positions, self.window, self.sinks)
        y = attend(
            turned,
            k,
            v,
            mask,
            scale=self.scale,
            softcap=self.softcap,
            sink_q=self.meet_sinks(q, mask, shared),
            dropout=self.dropout if self.training else 0.0,
            path=self.path,
        )
        return self.out(y.transpose(1, 2).flatten(2))  # (B, H, T, K) -> (B, T, D)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, K), keys and values (B, G, T, K), not turned yet."""
        q = self.split(self.query(x), self.n_heads)
        k = self.split(self.key(x), self.n_kv_heads)
        v = self.split(self.value(x), self.n_kv_heads)
        if self.query_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        return q, k, v

    def turn(
        self, q: Tensor, k: Tensor, angles: Angles | None
    ) -> tuple[Tensor, Tensor]:
        """Queries and keys turned to their places, if positions are rotary."""
        if angles is None:
            return q, k
        return rotate(q, angles), rotate(k, angles)

    def meet_sinks(self, q: Tensor, mask: Mask, shared: Shared) -> Tensor | None:
        """Queries turned so that the sinks seem to stand right before the window.

        Only the distance counts: a query at p sees them as one at window + sinks - 1
        would, if p is further than that. None: sinks are met like other keys.
        """
        if not mask.sinks or shared.rotary is None:
            return None
        return rotate(q, shared.angles_for_sinks(mask.window + mask.sinks - 1))

    def split(self, x: Tensor, heads: int) -> Tensor:
        """(B, T, heads * K) -> (B, heads, T, K)."""
        return x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)

    @torch.no_grad()
    def weights(self, x: Tensor, shared: Shared) -> Tensor:
        """The attention pattern itself, for figures: x (B, T, D) -> (B, H, T, T)."""
        q, k, _ = self.project(x)
        turned, k = self.turn(q, k, shared.angles)
        both_ways = shared.masks.both_ways
        masks = Masks(shared.positions, plain=False, both_ways=both_ways)
        mask = masks.of(shared.positions, self.window, self.sinks)
        return attention_weights(
            turned,
            share_keys(k, self.n_heads),
            mask,
            scale=self.scale,
            softcap=self.softcap,
            sink_q=self.meet_sinks(q, mask, shared),
        )
