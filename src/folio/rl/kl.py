"""What a rollout earns, token by token: its score, less a price for going astray."""

from __future__ import annotations

import torch
from torch import Tensor

from folio.objectives.logprobs import k1, k3, kept, row_sums


def punish_unfinished(
    scores: Tensor,
    finished: Tensor,
    penalty: float = 1.0,
    lowest: float | None = None,
) -> Tensor:
    """Rows (B,) without END get the lowest finished score less `penalty`.

    A reward model never saw a text without END, so what it says of one is noise. With
    no finished row at all the score is -penalty. `lowest`: that of all ranks, where
    these rows are only a part.

    >>> punish_unfinished(torch.tensor([2.0, 0.5, 9.0]), torch.tensor([1, 1, 0]))
    tensor([ 2.0000,  0.5000, -0.5000])
    """
    finished = finished.bool()
    if lowest is None:
        lowest = scores[finished].min().item() if finished.any() else 0.0
    return torch.where(finished, scores, lowest - penalty)


def shaped_rewards(
    scores: Tensor,
    logprobs: Tensor,
    reference_logprobs: Tensor,
    mask: Tensor,
    beta: float,
    limit: float = 5.0,
) -> Tensor:
    """Each token's price -β(log π - log ref), and the score at the last one: (B, T).

    scores (B,) are clipped to ± limit, logprobs (B, T) those of the sampling policy.
    Maximizing their sum maximizes E[score] - β KL(π ‖ ref) (Ziegler et al. 2019,
    equation 2). A row without a token in the mask earns nothing.

    >>> old, ref = torch.tensor([[-1.0, -2.0, 0.0]]), torch.tensor([[-2.0, -2.0, 9.0]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> shaped_rewards(torch.tensor([7.0]), old, ref, mask, beta=0.1)
    tensor([[-0.1000,  5.0000,  0.0000]])
    """
    mask = mask.bool()
    price = -beta * kept(k1(logprobs, reference_logprobs), mask)
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * mask).amax(1, keepdim=True)
    earned = scores.clamp(-limit, limit).to(price.dtype)[:, None]
    return price + torch.where(mask & (places == last), earned, 0.0)


def policy_kl(
    logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor
) -> tuple[float, float]:
    """KL(π ‖ ref) in nats of a rollout: per response (k1 summed), per token (k3).

    >>> old, ref = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-2.0, -2.5]])
    >>> policy_kl(old, ref, torch.ones(1, 2))
    (1.5, 0.23720...)
    """
    mask = mask.bool()
    if not mask.any():
        return 0.0, 0.0
    totals, _ = row_sums(k1(logprobs, reference_logprobs), mask)
    per_token = k3(logprobs, reference_logprobs)[mask].mean()
    return totals[mask.any(1)].mean().item(), per_token.item()
