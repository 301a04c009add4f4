"""An objective on data that nobody learns from: its loss and whatever else it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch

Objective = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


@torch.no_grad()
def held_out(
    objective: Objective,
    model: nn.Module,
    batches: Iterable[Batch],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, float]:
    """{"val_loss": ..., "val_accuracy": ...}: means over all `batches`.

    Each sum is divided once, by all denominators, so that the size of a batch does not
    matter. The model is left in the mode it was in.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums: dict[str, float] = {}
    total = 0.0
    try:
        for batch in batches:
            with autocast():
                loss, metrics = objective(model, batch.to(device))
            for name, value in ({"loss": loss} | metrics).items():
                sums[name] = sums.get(name, 0.0) + value.item()
            total += batch.denominator
    finally:
        model.train(was_training)
    if not total:
        raise UserError("nothing to measure: the held-out part is empty")
    return {f"val_{name}": value / total for name, value in sums.items()}
