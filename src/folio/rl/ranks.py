"""What ranks found, put together: each makes a part of a rollout, all need it whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from folio.runtime import world_size

T = TypeVar("T")


def of_all_ranks(mine: Sequence[T]) -> list[T]:
    """Everybody's things, those of rank 0 first; to be called by all ranks at once."""
    if world_size() == 1:
        return list(mine)
    parts: list[Sequence[T]] = [()] * world_size()
    dist.all_gather_object(parts, mine)
    return [thing for part in parts for thing in part]


def filled_by_ranks(mine: Tensor) -> Tensor:
    """One tensor of which each rank has filled some rows, and left the others 0."""
    if world_size() > 1:
        dist.all_reduce(mine)  # x + 0 is x, to the bit
    return mine
