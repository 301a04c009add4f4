"""Proximal policy optimization: several steps on one rollout, none of them too far.

Schulman et al. 2017: the policy's gradient is weighted by ρ = π_new / π_old, and a
token has none once ρ has left [1 - ε, 1 + ε] in the direction its advantage asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.objectives.logprobs import (
    add_router_loss,
    check_temperature,
    k3,
    kept,
    respond_again,
)


def policy_loss(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float
) -> Tensor:
    """-min(ρA, clip(ρ, 1 - low, 1 + high)A) per token (equation 7).

    >>> log_ratio = torch.tensor([1.5, 1.5, 0.5, 0.5]).log()
    >>> policy_loss(log_ratio, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2, 0.2)
    tensor([-1.2000,  1.5000, -0.5000,  0.8000])
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - low, 1 + high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clipped_tokens(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Where clipping takes the gradient away, below and above: bool, bool.

    >>> log_ratio = torch.tensor([1.5, 1.5, 0.5, 0.5]).log()
    >>> clipped_tokens(log_ratio, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2, 0.2)
    (tensor([False, False, False,  True]), tensor([ True, False, False, False]))
    """
    ratio = log_ratio.exp()
    below = (ratio < 1 - low) & (advantages < 0)
    above = (ratio > 1 + high) & (advantages > 0)
    return below, above


def value_loss(
    values: Tensor, returns: Tensor, old: Tensor, room: Tensor | None = None
) -> Tensor:
    """½(V - R)² per token, or the worse of V and V clipped to old ± room.

    >>> values, old = torch.tensor([2.0, 2.0]), torch.tensor([0.0, 0.0])
    >>> value_loss(values, torch.tensor([3.0, 0.0]), old, torch.tensor(1.0))
    tensor([2., 2.])
    """
    loss = (values - returns).square()
    if room is not None:
        near = old + torch.minimum(torch.maximum(values - old, -room), room)
        loss = torch.maximum(loss, (near - returns).square())
    return loss / 2


def policy_metrics(
    new: Tensor, old: Tensor, advantages: Tensor, weights: Tensor, clip: tuple
) -> dict[str, Tensor]:
    """Sums that tell how far the policy has gone; of tensors `kept` by weights.

    approx_kl estimates KL(old ‖ new): inner steps stop when it is too large.
    """
    with torch.no_grad():
        below, above = clipped_tokens(new - old, advantages, *clip)
        return {
            "approx_kl": (k3(old, new) * weights).sum(),
            "ratio": ((new - old).exp() * weights).sum(),
            "clipped_low": (below * weights).sum(),
            "clipped_high": (above * weights).sum(),
        }


def entropy_metric(output, weights: Tensor) -> dict[str, Tensor]:
    """The entropy of the full distribution, if the model was asked for it."""
    if getattr(output, "entropy", None) is None:
        return {}
    return {"entropy": (kept(output.entropy.detach(), weights) * weights).sum()}


@dataclass(frozen=True)
class PPO:
    """PPO's loss, summed over response tokens; denominator: their number.

    batch: inputs, targets, weights (B, T), and of the rollout: old_logprobs,
    advantages, returns, old_values (B, T). The model gives logprobs and values (B, T);
    a value belongs to the state *before* its target.

    value_clip is in standard deviations of the returns, since a fixed width would
    choke a critic of large ones: the batch then has return_std (B,), the same number
    in every row. temperature: that of the sampling. entropy: the model is called with
    entropy=True, for a metric.
    """

    clip: float = 0.2
    value_weight: float = 1.0
    value_clip: float | None = None
    temperature: float = 1.0
    entropy: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 < self.clip < 1:
            raise UserError(f"clip = {self.clip}: must lie between 0 and 1")
        if not self.value_weight > 0:
            raise UserError(f"value_weight = {self.value_weight}: must be above 0")
        if self.value_clip is not None and not self.value_clip > 0:
            raise UserError(
                f"value_clip = {self.value_clip}: must be above 0, or left out"
            )

    def __call__(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        output = respond_again(model, batch, self.temperature, self.entropy)
        weights, clip = batch.weights, (self.clip, self.clip)
        new, old = kept(output.logprobs, weights), kept(batch.old_logprobs, weights)
        advantages = kept(batch.advantages, weights)
        policy = (policy_loss(new - old, advantages, *clip) * weights).sum()
        value, value_metrics = self.value(kept(output.values, weights), batch)
        metrics = {
            "policy_loss": policy,
            "value_loss": value,
            **policy_metrics(new, old, advantages, weights, clip),
            **value_metrics,
            **entropy_metric(output, weights),
        }
        loss = policy + self.value_weight * value
        return add_router_loss(loss, metrics, output, weights.sum(1))

    def value(self, values: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's summed loss, the mean value, and how many were clipped."""
        weights = batch.weights
        returns, old = kept(batch.returns, weights), kept(batch.old_values, weights)
        metrics = {"value": (values * weights).sum()}
        room = None
        if self.value_clip is not None:
            room = self.value_clip * batch.return_std[:, None]
            clipped = (values - old).abs() > room
            metrics["value_clipped"] = (clipped * weights).sum()
        return (value_loss(values, returns, old, room) * weights).sum(), metrics
