"""One question, several ways to compute it: softmax(q k^T) v over visible keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cap(x: Tensor, cap: float | None) -> Tensor:
    """Bend numbers smoothly into (-cap, cap); small ones hardly change (Gemma 2).

    >>> soft_cap(torch.tensor([0.1, 100.0]), 5.0)
    tensor([0.1000, 5.0000])
    """
    return x if cap is None else cap * torch.tanh(x / cap)


def attention_weights(
    q: Tensor,
    k: Tensor,
    mask: Tensor,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """How much each query looks at each key: softmax(q k^T / sqrt(K)).

    q (B, H, T, K), k (B, H, S, K), mask (B, 1, T, S) -> (B, H, T, S); rows sum to one.
    A query that may see nothing (padding) gets a row of zeros, not of NaN. `scale`
    takes the place of 1 / sqrt(K); `softcap` bends the scores first.
    """
    scores = q @ k.transpose(-2, -1) * (scale or 1 / math.sqrt(q.shape[-1]))
    scores = soft_cap(scores, softcap)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0.0)


def share_keys(x: Tensor, heads: int) -> Tensor:
    """Give each query head its own copy of its group's: (B, G, S, K) -> (B, H, S, K).

    Heads 0 .. H/G - 1 share the first (Ainslie et al. 2023).
    """
    return x.repeat_interleave(heads // x.shape[1], 1)


def attend_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention as it is written on paper; what every faster path must equal.

    q (B, H, T, K), k and v (B, G, S, K), mask bool (B, 1, T, S) -> (B, H, T, K).
    """
    k, v = share_keys(k, q.shape[1]), share_keys(v, q.shape[1])
    weights = attention_weights(q, k, mask, scale, softcap)
    return F.dropout(weights, dropout) @ v


def attend_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same by PyTorch's kernels; `mask` None means plainly causal, T = S.

    Where G < H, a kernel reads each key for its whole group instead of copies of it.
    It has no soft cap.
    """
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention by the fastest path that can do it. `mask` None: plainly causal.

    q (B, H, T, K), k and v (B, G, S, K), mask bool (B, 1, T, S) -> (B, H, T, K).
    scale None: 1 / sqrt(K). Dropout acts on the weights.
    """
    if softcap is None:
        return attend_fused(q, k, v, mask, scale=scale, dropout=dropout)
    if mask is None:
        length = q.shape[2]
        mask = torch.ones(length, length, dtype=torch.bool, device=q.device)
        mask = mask.tril()[None, None]
    return attend_reference(
        q, k, v, mask, scale=scale, softcap=softcap, dropout=dropout
    )
