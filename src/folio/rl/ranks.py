"""What ranks found, put together: each makes a part of a rollout, all need it whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from folio.runtime import data_group, data_world, told_by_all

T = TypeVar("T")


def of_all_ranks(mine: Sequence[T]) -> list[T]:
    """Everybody's things, those of rank 0 first; to be called by all ranks at once."""
    if data_world() == 1:
        return list(mine)
    parts = told_by_all(mine, data_group())
    return [thing for part in parts for thing in part]


def filled_by_ranks(mine: Tensor) -> Tensor:
    """One tensor of which each rank has filled some rows, and left the others 0."""
    if data_world() > 1:
        dist.all_reduce(mine, group=data_group())  # x + 0 is x, to the bit
    return mine
