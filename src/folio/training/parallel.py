"""Many processes as one: what the loop needs to know of the others.

The loop knows `Alone`: where the weights are, what the loss calls, how gradients are
added up. What comes of many processes answers the same few questions otherwise, from
outside the model: `Replicated` here, and `Sharded` in `folio.training.sharded`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from folio.runtime import data_group, data_world, world_size


class Alone:
    """One process, which has everything.

    `model` is the whole model, to be looked at; `module` holds the weights that learn,
    and `forward` is what the loss calls, so that gradients are reduced. Here all three
    are one.
    """

    split = False  # whether this process has but a part of the weights

    def __init__(self, model: nn.Module):
        self.model = self.module = self.forward = model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """What this process's optimizer steps, by name."""
        return self.model.named_parameters()

    def accumulate(self) -> contextlib.AbstractContextManager:
        """Around the backward of all micro-batches but the last: nothing is summed."""
        return contextlib.nullcontext()

    def gradients(self) -> list[nn.Parameter]:
        """After the last backward: the parameters that have a gradient."""
        return [p for _, p in self.named_parameters() if p.grad is not None]

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Euclidean norm of the gradient of these parameters, over all processes."""
        return nn.utils.get_total_norm([p.grad for p in parameters])

    def clip(self, parameters: Sequence[nn.Parameter], most: float, norm: Tensor):
        """Scale the gradient down if its `norm` is above `most`."""
        nn.utils.clip_grads_with_norm_(parameters, most, norm)

    def gather(self) -> None:
        """Make `model` whole, with the newest weights; all ranks at once."""

    def release(self) -> None:
        """Nobody looks at `model` until the next `gather`: free its memory."""

    def part(self, name: str, whole: Tensor) -> Tensor:
        """What this process has of a tensor that belongs to the parameter `name`."""
        return whole


class Replicated(Alone):
    """Each rank has a copy of everything, and reads other data (DDP)."""

    def __init__(self, model: nn.Module, forward: nn.Module | None = None):
        """`forward`: what computes in the model's place, such as a rounded twin."""
        super().__init__(model)
        device = self.device
        self.forward = DistributedDataParallel(
            model if forward is None else forward,
            device_ids=[device.index] if device.type == "cuda" else None,
            process_group=data_group(),
            broadcast_buffers=False,  # each rank counts its own experts' load
        )

    def accumulate(self) -> contextlib.AbstractContextManager:
        return self.forward.no_sync()


def spread(model: nn.Module, forward: nn.Module | None = None) -> Alone:
    """Alone, or a copy on every rank; `forward` computes in the model's place."""
    if world_size() > 1:
        return Replicated(model, forward)
    ranks = Alone(model)
    ranks.forward = model if forward is None else forward
    return ranks


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over all that read different data, in place; the same when alone."""
    if data_world() > 1:
        dist.all_reduce(values, group=data_group())
    return values
