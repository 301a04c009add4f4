"""Log-probabilities of what was said: asked for, summed by row, compared.

Every objective after fine-tuning is a function of them. `weights` (B, T) say which
targets are the response, its END included; whatever stands at weight 0 is never read,
so that padding may hold anything.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.layout import respond


def respond_again(
    model: nn.Module, batch: Batch, temperature: float, entropy: bool = False
):
    """What a policy now says of the responses of a rollout, and of nothing else.

    At the temperature that they were sampled at: else the ratio to the old log-probs
    is not 1 before the first step, and what is learned is another policy.
    """
    asked = {"entropy": True} if entropy else {}
    where = batch.weights != 0
    return respond(
        model,
        batch,
        targets=batch.targets,
        where=where,
        temperature=temperature,
        **asked,
    )


def check_temperature(temperature: float) -> None:
    """Raise a UserError for one at which nothing can be scored; 0 is greedy."""
    if not 0 < temperature < math.inf:
        raise UserError(
            f"temperature = {temperature}: must be above 0, for log-probs are of the"
            " distribution that was sampled from, and greedy has none"
        )


def add_router_loss(
    loss: Tensor, metrics: dict[str, Tensor], output, row_weights: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What routers ask for, each row (B,) as often as it counts in the loss."""
    if getattr(output, "router_loss", None) is None:
        return loss, metrics
    asked = (output.router_loss * row_weights).sum()
    return loss + asked, metrics | {"router_loss": asked}


def kept(x: Tensor, weights: Tensor) -> Tensor:
    """x where it has weight, 0 elsewhere: `nan * 0` would be NaN, in gradients too.

    >>> kept(torch.tensor([1.0, float("nan")]), torch.tensor([0.5, 0.0]))
    tensor([1., 0.])
    """
    return torch.where(weights != 0, x, torch.zeros_like(x))


def row_sums(logprobs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """log p of each response and its length: (B, T), (B, T) -> (B,), (B,).

    >>> logprobs = torch.tensor([[-9.0, -1.0, -2.0], [-9.0, -3.0, -9.0]])
    >>> row_sums(logprobs, torch.tensor([[0, 1, 1], [0, 1, 0]]))
    (tensor([-3., -3.]), tensor([2, 1]))
    """
    return (kept(logprobs, weights) * weights).sum(-1), weights.sum(-1)


def k1(sampled: Tensor, other: Tensor) -> Tensor:
    """KL(sampled ‖ other) per token: unbiased, noisy, may be negative.

    For all three the token was drawn from the policy whose log-probability comes
    first (Schulman 2020, "Approximating KL divergence").

    As a loss it is worthless: its gradient, that of log p alone, does not know the
    other policy and is 0 on average. As a penalty in the reward it is right.
    """
    return sampled - other


def k2(sampled: Tensor, other: Tensor) -> Tensor:
    """Half the squared log-ratio: biased, steady.

    Its gradient on samples of the policy is that of KL(sampled ‖ other).
    """
    return (sampled - other).square() / 2


def k3(sampled: Tensor, other: Tensor) -> Tensor:
    """r - 1 - log r with r = other / sampled: unbiased, and never below 0.

    As a loss, its gradient on samples of the policy is that of the *other* direction,
    KL(other ‖ sampled): it spreads the policy over what the other one says.

    >>> p, q = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])
    >>> [round((p * k(p.log(), q.log())).sum().item(), 4) for k in (k1, k2, k3)]
    [0.1927, 0.1723, 0.1927]
    """
    log_ratio = other - sampled
    return torch.expm1(log_ratio) - log_ratio


def largest_ratio(new: Tensor, old: Tensor, weights: Tensor) -> Tensor:
    """The largest new / old among weighted tokens: exactly 1 before the first step.

    >>> half, none = torch.tensor([0.5, 0.1]).log(), torch.tensor([1.0, 0.0])
    >>> largest_ratio(half, torch.tensor([0.25, 0.9]).log(), none)
    tensor(2.)
    """
    log_ratio = torch.where(weights != 0, new - old, -torch.inf)
    return log_ratio.max().exp()
