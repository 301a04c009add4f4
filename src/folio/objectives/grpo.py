"""Group relative policy optimization: PPO whose baseline is the group, not a critic.

Shao et al. 2024 (DeepSeekMath, equation 3). Advantages: `folio.rl.advantage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.objectives.logprobs import (
    add_router_loss,
    check_temperature,
    k2,
    k3,
    kept,
    respond_again,
)
from folio.objectives.ppo import entropy_metric, policy_loss, policy_metrics

AGGREGATIONS = ("token", "sequence", "constant")


def response_weights(
    mask: Tensor, aggregation: str = "token", longest: int | None = None
) -> tuple[Tensor, float]:
    """What each token weighs, and the denominator: mask (B, T) -> (B, T), number.

    "token": all tokens alike (Yu et al. 2025, DAPO). "sequence": all responses alike,
    so that a token of a long one counts less (the original). "constant": each token
    1 / (rows · longest), whatever was said (Liu et al. 2025, Dr. GRPO). Rows without a
    token count nowhere. A short and a long response, 2 and 10 tokens, weigh:

    >>> mask = torch.arange(10) < torch.tensor([[2], [10]])
    >>> for how in AGGREGATIONS:
    ...     weights, denominator = response_weights(mask, how, longest=10)
    ...     print(how, weights.sum(1) / denominator)
    token tensor([0.1667, 0.8333])
    sequence tensor([0.5000, 0.5000])
    constant tensor([0.1000, 0.5000])
    """
    if aggregation not in AGGREGATIONS:
        raise UserError(
            f"aggregation = {aggregation!r}: choose one of {', '.join(AGGREGATIONS)}"
        )
    weights = mask.float()
    lengths = weights.sum(1, keepdim=True)
    rows = (lengths > 0).sum().item()
    if aggregation == "token":
        return weights, lengths.sum().item()
    if aggregation == "sequence":
        return weights / lengths.clamp(min=1), rows
    if longest is None:
        raise UserError(
            "longest = None: the aggregation constant divides by it; set it"
        )
    return weights, rows * longest


@dataclass(frozen=True)
class GRPO:
    """GRPO's loss, summed; weights and denominator come from `response_weights`.

    batch: inputs, targets, weights, old_logprobs, advantages (B, T), and, unless beta
    is 0, reference_logprobs (B, T). The upper clip is the wider one, so that rare
    tokens can rise, too (Yu et al. 2025, "clip-higher"). Where a rollout is learned
    from but once, the old policy is the new one: such a batch has sampler_logprobs
    instead of old_logprobs, with which metrics compare, and the loss does not.

    Metrics are divided like the loss. Under "constant" the denominator is more than
    the weights' sum: divide them by the metric `filled` for a mean per token.

    >>> GRPO(kl="k1")
    Traceback (most recent call last):
    folio.config.UserError: kl = 'k1': its gradient as a loss does not know the \
reference and is 0 on average; choose k3 or k2
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    beta: float = 0.02
    kl: Literal["k3", "k2"] = "k3"
    temperature: float = 1.0  # that of the sampling
    entropy: bool = False  # ask the model for it, as a metric

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 < self.clip_low < 1:
            raise UserError(f"clip_low = {self.clip_low}: must lie between 0 and 1")
        if not self.clip_high > 0:
            raise UserError(f"clip_high = {self.clip_high}: must be above 0")
        if not self.beta >= 0:
            raise UserError(f"beta = {self.beta}: must be 0 or more")
        if self.kl == "k1":
            raise UserError(
                "kl = 'k1': its gradient as a loss does not know the reference and is "
                "0 on average; choose k3 or k2"
            )
        if self.kl not in ("k3", "k2"):
            raise UserError(f"kl = {self.kl!r}: choose k3 or k2")

    def __call__(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        output = respond_again(model, batch, self.temperature, self.entropy)
        weights, clip = batch.weights, (self.clip_low, self.clip_high)
        new, advantages = (
            kept(x, weights) for x in (output.logprobs, batch.advantages)
        )
        if "old_logprobs" in batch:
            old = before = kept(batch.old_logprobs, weights)
        else:
            old, before = kept(batch.sampler_logprobs, weights), new.detach()
        policy = (policy_loss(new - before, advantages, *clip) * weights).sum()
        metrics = {
            "policy_loss": policy,
            "filled": weights.sum(),
            **policy_metrics(new, old, advantages, weights, clip),
            **entropy_metric(output, weights),
        }
        loss = policy
        if self.beta > 0:
            reference = kept(batch.reference_logprobs, weights)
            penalty = (k3 if self.kl == "k3" else k2)(new, reference)
            loss = loss + self.beta * (penalty * weights).sum()
            with torch.no_grad():  # k3, whichever is in the loss: curves compare
                metrics["kl"] = (k3(new, reference) * weights).sum()
        return add_router_loss(loss, metrics, output, weights.sum(1))
