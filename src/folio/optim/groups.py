"""Which parameters shrink: matrices do; biases, norms and gains do not."""

from __future__ import annotations

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two optimizer groups: decay for matrices (also stacked), none for vectors.

    Each group also carries its parameters' names, so that a snapshot can store the
    optimizer's state by name.
    """
    decayed: dict[str, nn.Parameter] = {}
    plain: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():  # a tied head comes once
        if parameter.requires_grad:
            (decayed if parameter.dim() >= 2 else plain)[name] = parameter
    groups = ((decayed, weight_decay), (plain, 0.0))
    return [
        {"params": list(named.values()), "names": list(named), "weight_decay": decay}
        for named, decay in groups
        if named
    ]
