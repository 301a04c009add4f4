"""How strong the gradient is, layer by layer."""

from __future__ import annotations

import torch
from torch import nn

from folio.training.parallel import Alone


def part_of(name: str) -> str:
    """The part of a decoder that a parameter belongs to.

    >>> part_of("blocks.3.attention.query.weight"), part_of("embedding.weight")
    ('blocks.3', 'embedding')
    """
    first, *rest = name.split(".")
    return f"blocks.{rest[0]}" if first == "blocks" else first


def gradient_norms(model: nn.Module | Alone) -> dict[str, float]:
    """The Euclidean norm of each part's gradient as `grad_norm.PART`.

    A head that is tied to the embedding counts there. The squares of all parts add up
    to the square of the whole norm. One transfer from the device.
    """
    ranks = model if isinstance(model, Alone) else Alone(model)
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in ranks.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(part_of(name), []).append(parameter)
    if not parts:
        return {}
    norms = torch.stack([ranks.norm(each) for each in parts.values()])
    names = [f"grad_norm.{part}" for part in parts]
    return dict(zip(names, norms.float().tolist(), strict=True))
