"""Attention: each token asks the earlier ones, and mixes what they answer."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.config import ModelConfig
from folio.model.mask import visible
from folio.model.positions import rotate

Angles = tuple[Tensor, Tensor]


class Cache(Protocol):
    """What one layer remembers of the keys and values it has seen."""

    def update(
        self, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Store new k, v (B, G, T, K) at positions (B, T); return all that is kept.

        The result is keys and values (B, G, S, K) and their positions (B, S), -1
        for an empty slot.
        """


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """How much each query looks at each key: softmax(q k^T / sqrt(K)).

    q (B, H, T, K), k (B, H, S, K), mask (B, 1, T, S) -> (B, H, T, S); rows sum to one.
    A query that may see nothing (padding) gets a row of zeros, not of NaN.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0.0)


def share_keys(x: Tensor, heads: int) -> Tensor:
    """Give each query head its own copy of its group's: (B, G, S, K) -> (B, H, S, K).

    Heads 0 .. H/G - 1 share the first (Ainslie et al. 2023).
    """
    return x.repeat_interleave(heads // x.shape[1], 1)


def attend_reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention as it is written on paper; what every faster path must equal.

    q (B, H, T, K), k and v (B, G, S, K), mask bool (B, 1, T, S) -> (B, H, T, K).
    """
    k, v = share_keys(k, q.shape[1]), share_keys(v, q.shape[1])
    return attention_weights(q, k, mask) @ v


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Attention by the fused kernel. `mask` None means plainly causal, T = S.

    q (B, H, T, K), k and v (B, G, S, K), mask bool (B, 1, T, S) -> (B, H, T, K).
    Where G < H, the kernel reads each key for its whole group instead of copies of
    it. Dropout acts on the weights.
    """
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        enable_gqa=q.shape[1] != k.shape[1],
    )


class Attention(nn.Module):
    """Multi-head attention; with fewer key/value heads, grouped-query attention."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.kv_heads
        self.head_width, self.dropout = config.head_width, config.dropout
        width, kv_width = config.d_model, config.kv_heads * config.head_width
        self.query = nn.Linear(width, width, bias=config.bias)
        self.key = nn.Linear(width, kv_width, bias=config.bias)
        self.value = nn.Linear(width, kv_width, bias=config.bias)
        self.out = nn.Linear(width, width, bias=config.bias)

    def forward(
        self,
        x: Tensor,
        positions: Tensor | None,
        angles: Angles | None,
        cache: Cache | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D). positions (B, T); None: 0, 1, ... without a cache.

        angles are the rotary ones of `positions`, or None if the model has none.
        """
        q, k, v = self.project(x, angles)
        mask = None
        if positions is not None:
            key_positions = positions
            if cache is not None:
                k, v, key_positions = cache.update(k, v, positions)
            mask = visible(positions, key_positions)[:, None]  # (B, 1, T, S)
        dropout = self.dropout if self.training else 0.0
        y = attend(q, k, v, mask, dropout)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, H, T, K) -> (B, T, D)

    def project(self, x: Tensor, angles: Angles | None) -> tuple[Tensor, ...]:
        """Queries (B, H, T, K), keys and values (B, G, T, K), turned to their place."""
        q = self.split(self.query(x), self.n_heads)
        k = self.split(self.key(x), self.n_kv_heads)
        v = self.split(self.value(x), self.n_kv_heads)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def split(self, x: Tensor, heads: int) -> Tensor:
        """(B, T, heads * K) -> (B, heads, T, K)."""
        return x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)

    @torch.no_grad()
    def weights(self, x: Tensor, positions: Tensor, angles: Angles | None) -> Tensor:
        """The attention pattern itself, for figures: x (B, T, D) -> (B, H, T, T)."""
        q, k, _ = self.project(x, angles)
        mask = visible(positions, positions)[:, None]
        return attention_weights(q, share_keys(k, self.n_heads), mask)
