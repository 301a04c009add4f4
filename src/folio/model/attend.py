"""One question, several ways to compute it: softmax(q k^T) v over visible keys."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from folio.model.mask import Mask

Path = Literal["reference", "explicit", "fused", "flex"]


class Kept(Protocol):
    """Keys and values that a cache doesn't hand out, for it attends itself."""

    def attend(self, q: Tensor, scale: float) -> Tensor:
        """q (B, H, T, K), the queries of the newest tokens -> (B, H, T, K')."""


LOW_PRECISION = (torch.bfloat16, torch.float16)
FUSED_FROM = 1024  # queries on a CPU; see `fastest_path`
FLEX_FROM = 512  # queries; below, its blocks of 128 spare little
LEAST_ROWS, LONGEST_SUM = 4, 512  # of a product; see `steady`


def soft_cap(x: Tensor, cap: float | None) -> Tensor:
    """Bend numbers smoothly into (-cap, cap); small ones hardly change (Gemma 2).

    >>> soft_cap(torch.tensor([0.1, 100.0]), 5.0)
    tensor([0.1000, 5.0000])
    """
    return x if cap is None else cap * torch.tanh(x / cap)


def attention_weights(
    q: Tensor,
    k: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
) -> Tensor:
    """How much each query looks at each key: softmax(q k^T / sqrt(K)).

    q (B, H, T, K), k (B, H, S, K) -> (B, H, T, S); rows sum to one. A query that may
    see nothing (padding) gets a row of zeros, not of NaN. `scale` takes the place of
    1 / sqrt(K); `softcap` bends the scores first; `sink_q` are the queries in the form
    in which they meet the sinks.
    """
    scores = q @ k.transpose(-2, -1)
    if sink_q is not None:
        scores = torch.where(mask.sink_keys, sink_q @ k.transpose(-2, -1), scores)
    scores = soft_cap(scores * (scale or 1 / math.sqrt(q.shape[-1])), softcap)
    weights = scores.masked_fill(~mask.seen, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask.seen, 0.0)


def share_keys(x: Tensor, heads: int) -> Tensor:
    """Give each query head its own copy of its group's: (B, G, S, K) -> (B, H, S, K).

    Heads 0 .. H/G - 1 share the first (Ainslie et al. 2023).
    """
    return x.repeat_interleave(heads // x.shape[1], 1)


def attend_reference(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, dropout: float = 0.0, **options
) -> Tensor:
    """Attention as it is written on paper; what every faster path must equal.

    q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K'). The options are
    those of `attention_weights`.
    """
    k, v = share_keys(k, q.shape[1]), share_keys(v, q.shape[1])
    return F.dropout(attention_weights(q, k, mask, **options), dropout) @ v


def steady(a: Tensor, b: Tensor) -> Tensor:
    """a @ b to the last digit, whatever is beside it: (..., M, N), (..., N, P).

    On CPUs, products of fewer rows than `LEAST_ROWS` take other paths, and sums of more
    than some hundred are split, in ways that depend on their length, padding and all: a
    token's last digit would depend on its neighbors. (Measured on Intel, widths 4 to
    64, 16 to 1344 keys.) So rows are added, and long sums are split at fixed places.
    Where there are gradients, or a compiler that makes its own loops, nothing is.
    """
    exact = a.device.type == "cpu" and a.dtype in (torch.float32, torch.float64)
    free = a.requires_grad or b.requires_grad or torch.compiler.is_compiling()
    if not exact or free:
        return a @ b
    rows = a.shape[-2]
    a = F.pad(a, (0, 0, 0, max(LEAST_ROWS - rows, 0)))
    parts = zip(a.split(LONGEST_SUM, -1), b.split(LONGEST_SUM, -2), strict=True)
    return sum(x @ y for x, y in parts)[..., :rows, :]


def attend_explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same in fewer steps: the queries of a group lie side by side, R = H / G.

    So one product meets each key once, and no key is copied. A softmax of bf16 works
    in fp32 inside, and rounds once.
    """
    (batch, heads, length, width), groups = q.shape, k.shape[1]
    queries = q if sink_q is None else torch.stack([q, sink_q], 2)
    queries = queries * (scale or 1 / math.sqrt(width))
    scores = steady(queries.reshape(batch, groups, -1, width), k.transpose(-2, -1))
    if sink_q is None:
        scores = scores.unflatten(2, (-1, length))  # (B, G, R, T, S)
    else:
        plain, parked = scores.unflatten(2, (-1, 2, length)).unbind(3)
        scores = torch.where(mask.sink_keys[:, :, None], parked, plain)
    added = mask.added(scores.dtype, blind_see_all=True)[:, :, None]
    weights = (soft_cap(scores, softcap) + added).softmax(-1)
    if dropout:
        weights = F.dropout(weights, dropout)
    y = steady(weights.flatten(2, 3), v)  # (B, G, R T, K')
    y = y.reshape(batch, heads, length, -1)
    return y.masked_fill(mask.blind_queries, 0) if mask.blind else y


def meet_sinks(q: Tensor, k: Tensor, mask: Mask, sink_q: Tensor | None):
    """Two kinds of queries in one product, for kernels that know of only one.

    Each query carries both forms, (B, H, T, 2 K), and each key fills the half that it
    is to be met with.
    """
    if sink_q is None:
        return q, k
    sinks = mask.sink_keys.transpose(-2, -1)  # (B, 1, S, 1)
    halves = [k.masked_fill(sinks, 0), k.masked_fill(~sinks, 0)]
    return torch.cat([q, sink_q], -1), torch.cat(halves, -1)


def attend_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    sink_q: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same by PyTorch's kernels, which keep no scores; they know no soft cap.

    Where G < H, a kernel reads each key for its whole group instead of copies of it.
    """
    scale = scale or 1 / math.sqrt(q.shape[-1])
    q, k = meet_sinks(q, k, mask, sink_q)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=None if mask.causal else mask.added(q.dtype),
        dropout_p=dropout,
        is_causal=mask.causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def attend_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
) -> Tensor:
    """The same by FlexAttention (see `folio.model.flex`); it has no dropout."""
    from folio.model.flex import flex  # brings the compiler: only where it is used

    scale = scale or 1 / math.sqrt(q.shape[-1])
    q, k = meet_sinks(q, k, mask, sink_q)
    return flex(q, k, v, mask, scale, softcap)


PATHS = {
    "reference": attend_reference,
    "explicit": attend_explicit,
    "fused": attend_fused,
    "flex": attend_flex,
}


def fastest_path(
    q: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
    dropout: float = 0.0,
) -> Path:
    """Which path is the fastest that can do it?

    On a CPU, by `bench/attention.py`: the kernels win or draw in fp32, and the explicit
    path where two of three things meet: low precision, in which they are slow; widths
    of queries and values that differ, or sinks, at which they fall back to a slower
    form; and fewer than 1024 queries, whose scores still fit the processor's caches.
    Low precision slows their backward, so it doesn't count where there is none: forward
    alone they take two thirds to a sixth of the time.
    On CUDA the kernels work through whole squares unless the mask is plainly causal;
    FlexAttention skips what nobody sees.
    """
    length = q.shape[2]
    if q.is_cuda:
        special = softcap is not None or not mask.causal
        if special and not dropout and length >= FLEX_FROM:
            return "flex"
    else:
        uneven = sink_q is not None or q.shape[-1] != v.shape[-1]
        low = q.dtype in LOW_PRECISION and (uneven or torch.is_grad_enabled())
        if low + uneven + (length < FUSED_FROM) >= 2:
            return "explicit"
    return "fused" if softcap is None else "explicit"


def attend(
    q: Tensor,
    k: Tensor | Kept,
    v: Tensor | Kept,
    mask: Mask,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
    dropout: float = 0.0,
    path: Path | None = None,
) -> Tensor:
    """Attention by the fastest path that can do it, or by the `path` that is named.

    q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').
    scale None: 1 / sqrt(K). Keys that the mask calls sinks are met by `sink_q`, if
    given, instead of q. Dropout acts on the weights. ValueError: that path can't.
    Keys and values that are `Kept` (the same one, twice) have a path of their own.
    """
    if not isinstance(k, Tensor):
        return k.attend(q, scale or 1 / math.sqrt(q.shape[-1]))
    options = {"softcap": softcap, "sink_q": sink_q, "dropout": dropout}
    path = path or fastest_path(q, v, mask, **options)
    lacks = {"fused": "softcap", "flex": "dropout"}.get(path)
    if lacks is not None and options.pop(lacks):
        raise ValueError(f"path = {path!r} has no {lacks}; use 'explicit'")
    return PATHS[path](q, k, v, mask, scale=scale, **options)
