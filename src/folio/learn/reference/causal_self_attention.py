"""Attention of many heads as small GPTs write it: one product for all projections."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CausalSelfAttention(nn.Module):
    """Each token looks at itself and at those before it, with `n_heads` heads.

    `c_attn` makes queries, keys and values at once: the first third of its outputs are
    the queries, then come the keys, then the values. `c_proj` mixes the heads. The
    buffer `bias` is the mask: ones where a query (row) may see a key (column).
    `folio.model.attention.Attention` gives the same from the same weights.
    """

    def __init__(self, d_model: int, n_heads: int, max_seq_len: int):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model = {d_model}: not divisible by {n_heads} heads")
        self.n_heads = n_heads
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)
        mask = torch.tril(torch.ones(max_seq_len, max_seq_len))
        self.register_buffer("bias", mask[None, None])  # (1, 1, T, T)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.n_heads, d // self.n_heads).transpose(1, 2)
            for part in self.c_attn(x).split(d, dim=2)
        )  # (B, H, T, K) each
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])  # (B, H, T, T)
        scores = scores.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
        y = scores.softmax(dim=-1) @ v  # (B, H, T, K)
        y = y.transpose(1, 2).contiguous().view(b, t, d)
        return self.c_proj(y)
