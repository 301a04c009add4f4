"""How the work is spread over experts: evened out after each update, and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from folio.files import write_atomically
from folio.model.moe import balance_routers
from folio.training.hooks import due, entries_before
from folio.training.learner import Learner
from folio.training.loop import Hook, Metrics
from folio.training.parallel import sum_over_ranks


def spread(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Of E shares that sum to one: the largest, and the coefficient of variation.

    The second is the deviation over the mean: 0 if all work alike, sqrt(E / k - 1) if
    the same k of E do everything.

    >>> [round(float(x), 2) for x in spread(torch.tensor([0.5, 0.5, 0.0, 0.0]))]
    [0.5, 1.0]
    """
    return shares.max(), len(shares) * shares.std(correction=0)


def load_metrics(shares: dict[str, Tensor]) -> dict[str, float]:
    """`busiest_expert.LAYER` and `load_variation.LAYER` for each layer with experts."""
    if not shares:
        return {}
    numbers = torch.stack([torch.stack(spread(share)) for share in shares.values()])
    metrics = {}
    for name, (most, variation) in zip(shares, numbers.tolist(), strict=True):
        layer = name.removesuffix(".moe")
        metrics[f"busiest_expert.{layer}"] = most
        metrics[f"load_variation.{layer}"] = variation
    return metrics


def balance_experts(figure: Path | None, *, every: int, last: int) -> Hook:
    """Nudge the routers after every update, and add their load to its metrics.

    The first hook of all, on every rank: the ranks' loads are summed, the log comes
    after, and a snapshot must hold the biases as they are for the next step. The
    shares of single steps go to `figure` now and then, on the rank that has one.
    """

    def hook(learner: Learner, metrics: Metrics) -> None:
        shares = balance_routers(learner.ranks.module, sum_over_ranks)
        metrics.update(load_metrics(shares))
        if figure is not None and shares and due(learner.step, every, last):
            _add_entry(figure, learner.step, shares)

    return hook


def _add_entry(path: Path, step: int, shares: dict[str, Tensor]) -> None:
    """{"layers": ["blocks.0"], "steps": [{"step": 20, "shares": [[0.5, ...]]}]}."""
    rows = [[round(x, 5) for x in share.tolist()] for share in shares.values()]
    figure = {
        "layers": [name.removesuffix(".moe") for name in shares],
        "steps": [*entries_before(path, step), {"step": step, "shares": rows}],
    }
    write_atomically(path, json.dumps(figure))
