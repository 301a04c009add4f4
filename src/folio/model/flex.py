"""Attention by PyTorch's FlexAttention: one kernel compiled for one mask rule.

It skips every block of 128 queries and 128 keys that don't see one another, so that a
window costs what a window should, and it bends scores on the fly (Dong et al. 2024).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    BlockMask,
    create_block_mask,
    flex_attention,
)

from folio.model.attend import soft_cap
from folio.model.mask import Mask, in_reach, sees


def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """q (B, H, T, K), k (B, G, S, K), v (B, G, S, K') -> (B, H, T, K').

    Compiled on CUDA; elsewhere its readable form runs, which has no gradients.
    """

    def bend(score: Tensor, *place: Tensor) -> Tensor:
        return soft_cap(score, softcap)

    kernel = compiled() if q.is_cuda else flex_attention
    return kernel(
        q,
        k,
        v,
        score_mod=None if softcap is None else bend,
        block_mask=blocks_of(mask, len(q), q.is_cuda),
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


@functools.cache
def compiled() -> Callable[..., Tensor]:
    """Compiled once; again only for new shapes."""
    return torch.compile(flex_attention)


def blocks_of(mask: Mask, batch: int, compile_it: bool) -> BlockMask:
    """Which blocks are seen whole, in part or not at all; made once per mask."""
    return mask.once(
        "blocks",
        lambda: create_block_mask(
            rule_of(mask, batch),
            batch,
            None,
            mask.query_positions.shape[1],
            mask.key_positions.shape[1],
            device=mask.key_positions.device,
            _compile=compile_it,
        ),
    )


def rule_of(mask: Mask, batch: int) -> Callable[..., Tensor]:
    """`visible` for one (row, head, query, key) at a time."""

    def all_rows(x: Tensor) -> Tensor:
        return x.expand(batch, *x.shape[1:]).contiguous()

    queries, keys = all_rows(mask.query_positions), all_rows(mask.key_positions)
    rule = (mask.window, mask.sinks, mask.both_ways)
    if mask.documents is None:
        return lambda b, h, q, k: sees(queries[b, q], keys[b, k], *rule)
    of_query, of_key = (all_rows(d) for d in mask.documents)
    return lambda b, h, q, k: (
        sees(queries[b, q], keys[b, k], *rule)
        & in_reach(of_query[b, q], of_key[b, k], 0)
    )
