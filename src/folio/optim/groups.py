"""Which parameters shrink: matrices do; biases, norms and gains do not."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def decay_groups(
    model: nn.Module, weight_decay: float, rates: Mapping[str, float] | None = None
) -> list[dict]:
    """Two optimizer groups: decay for matrices (also stacked), none for vectors.

    `rates` are learning rates of parts by name ("critic": 5e-4), each of which gets
    groups of its own. A group carries its parameters' names, so that a snapshot can
    store the optimizer's state by name.
    """
    groups: dict[tuple[str, bool], dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():  # a tied head comes once
        if parameter.requires_grad:
            part = next((p for p in rates or {} if name.startswith(f"{p}.")), "")
            key = part, parameter.dim() >= 2
            groups.setdefault(key, {})[name] = parameter
    return [
        {
            "params": list(named.values()),
            "names": list(named),
            "weight_decay": weight_decay if decayed else 0.0,
            **({"lr": rates[part]} if part else {}),
        }
        for (part, decayed), named in sorted(
            groups.items(), key=lambda item: (item[0][0], not item[0][1])
        )
    ]
