"""Advantages: how much better a token did than was to be expected.

Pure functions of a rollout's numbers. `mask` (B, T) is True for the tokens that the
policy chose; what stands elsewhere is never read.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from folio.config import UserError

SCALES = ("none", "group", "batch")


def group_advantages(
    rewards: Tensor,
    group: int,
    scale: Literal["none", "group", "batch"] = "group",
    counts: Tensor | None = None,
) -> Tensor:
    """Reward less its group's mean: (N,) -> (N,); each prompt's `group` rows adjoin.

    scale: divided by the group's standard deviation (Shao et al. 2024), by the
    batch's, or by nothing: a deviation near 0 makes the easiest and the hardest
    prompts loudest (Liu et al. 2025, Dr. GRPO). A group of equal rewards, or of one,
    has exactly 0. counts bool (N,): rows that don't are in no mean, and have 0.

    >>> rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 5.0, 5.0])
    >>> group_advantages(rewards, 2, scale="none")
    tensor([ 0.5000, -0.5000, -0.5000,  0.5000,  0.0000,  0.0000])
    >>> group_advantages(rewards, 2)
    tensor([ 0.9998, -0.9998, -0.9998,  0.9998,  0.0000,  0.0000])
    >>> counts = torch.tensor([True, False, True, True, True, True])
    >>> group_advantages(rewards, 3, scale="none", counts=counts)
    tensor([ 0.5000,  0.0000, -0.5000, -2.6667,  1.3333,  1.3333])
    """
    if scale not in SCALES:
        raise UserError(f"scale = {scale!r}: choose one of {', '.join(SCALES)}")
    grouped, counted = _groups(rewards, group, counts)
    mean, deviation = _moments(grouped, counted, dim=1)
    # A mean of equal numbers is rounded, and 1e-8 / 1e-4 would be a gradient.
    still = dead_groups(rewards, group, counts)[:, None] | ~counted
    centred = (grouped - mean).masked_fill(still, 0.0)
    if scale == "group":
        centred = centred / (deviation + 1e-4)
    elif scale == "batch":
        _, deviation = _moments(grouped.flatten(), counted.flatten(), dim=0)
        centred = centred / (deviation + 1e-4)
    return centred.flatten()


def dead_groups(rewards: Tensor, group: int, counts: Tensor | None = None) -> Tensor:
    """Groups whose rewards are all equal, so that they teach nothing: (N,) -> (P,).

    >>> dead_groups(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2)
    tensor([False,  True])
    """
    grouped, counted = _groups(rewards, group, counts)
    most = grouped.masked_fill(~counted, -torch.inf).amax(1)
    return most <= grouped.masked_fill(~counted, torch.inf).amin(1)


def _groups(
    rewards: Tensor, group: int, counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    if group < 1 or len(rewards) % group:
        raise UserError(
            f"group = {group}: {len(rewards)} responses are no whole number of groups"
        )
    if counts is None:
        counts = torch.ones_like(rewards, dtype=torch.bool)
    return rewards.view(-1, group), counts.bool().view(-1, group)


def _moments(x: Tensor, counted: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of what counts, along a dimension that is kept."""
    number = counted.sum(dim, keepdim=True).clamp(min=1)
    mean = torch.where(counted, x, 0.0).sum(dim, keepdim=True) / number
    apart = torch.where(counted, x - mean, 0.0).square().sum(dim, keepdim=True)
    return mean, (apart / number).sqrt()


class Estimate(NamedTuple):
    """What GAE makes of a rollout, 0 outside the mask."""

    advantages: Tensor  # (B, T)
    returns: Tensor  # (B, T), what the critic should have said


def gae(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
    after: Tensor | None = None,
) -> Estimate:
    """Generalized advantage estimation (Schulman et al. 2016, equation 16).

    rewards, values (B, T): δ_t = r_t + γ V_{t+1} - V_t, and A_t = δ_t + γλ A_{t+1}.
    λ = 1 is the return less the value, λ = 0 a single step's surprise. Tokens outside
    the mask are no steps: the next one is where the policy chooses again.

    after (B,): the value of the state behind a row's last token. It is 0 at END, where
    nothing follows; of a row that was merely *cut* it is the critic's word for what
    would have come, unless the cut is to be punished as an end.

    >>> rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5] * 3])
    >>> gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), lam=0.5)[0]
    tensor([[0.1250, 0.2500, 0.5000]])
    """
    advantages = torch.zeros_like(values)
    advantage = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(advantage) if after is None else after
    for t in reversed(range(values.shape[1])):
        acts = mask[:, t].bool()
        surprise = rewards[:, t] + gamma * following - values[:, t]
        advantage = torch.where(acts, surprise + gamma * lam * advantage, advantage)
        following = torch.where(acts, values[:, t], following)
        advantages[:, t] = torch.where(acts, advantage, 0.0)
    returns = advantages + torch.where(mask.bool(), values, 0.0)
    return Estimate(advantages, returns)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the mask, 0 elsewhere; over the *whole* rollout.

    Minibatch by minibatch, an advantage would depend on its neighbours.

    >>> whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]]))
    tensor([[-1.,  1.,  0.]])
    """
    mask = mask.bool()
    chosen = x[mask]
    if not len(chosen) or chosen.max() == chosen.min():  # rounding is no signal
        return torch.zeros_like(x)
    white = (x - chosen.mean()) / (chosen.std(correction=0) + 1e-8)
    return torch.where(mask, white, 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 is a perfect critic, 0 one that says a constant.

    Where returns do not vary there is nothing to explain: 0.

    >>> returns, mask = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3)
    >>> explained_variance(returns - 1, returns, mask)
    1.0
    """
    mask = mask.bool()
    wanted, missing = returns[mask], (returns - values)[mask]
    if not len(wanted) or wanted.max() == wanted.min():
        return 0.0
    return (1 - missing.var(correction=0) / wanted.var(correction=0)).item()
