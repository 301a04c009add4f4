"""The one mask rule, for training and caches: positions decide, never slots."""

from __future__ import annotations

from torch import Tensor


def visible(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Which keys may each query see? (B, T), (B, S) -> bool (B, T, S).

    A query sees the keys at its own position and before. Position -1 marks an empty
    slot of a cache, or padding, which nobody sees.

    >>> import torch
    >>> visible(torch.tensor([[1, 2]]), torch.tensor([[0, 1, 2, -1]])).int()
    tensor([[[1, 1, 0, 0],
             [1, 1, 1, 0]]], dtype=torch.int32)
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    return (key >= 0) & (key <= query)
