"""Many processes as one: what the loop needs to know of the others."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from folio.runtime import world_size


def wrap(model: nn.Module) -> nn.Module:
    """The forward to train through: DDP when there are ranks to average with."""
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False,  # each rank counts its own experts' load
    )


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over all ranks, in place; the same tensor when alone."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """True on every rank if it is true on one."""
    if world_size() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)) > 0)
