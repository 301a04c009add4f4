"""From scores to a choice: temperature, top-k, top-p, min-p, repetition penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from folio.config import UserError
from folio.runtime import doubles


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. One value for the sampler and whoever scores it."""

    temperature: float = 1.0  # 0: greedy
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature = {self.temperature}: must be 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k = {self.top_k}: must be at least 1")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UserError(f"{name} = {value}: must lie in (0, 1]")
        if not 0 < self.repetition_penalty < math.inf:
            raise UserError(
                f"repetition_penalty = {self.repetition_penalty}: must be above 0"
            )


GREEDY = Sampling(temperature=0.0)


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative scores of tokens seen before.

    logits (B, V), seen bool (B, V) (Keskar et al. 2019, section 4.1).

    >>> seen = torch.tensor([[True, True, False]])
    >>> penalize_repetition(torch.tensor([[2.0, -2.0, 2.0]]), seen, 2.0)
    tensor([[ 1., -4.,  2.]])
    """
    punished = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, punished, logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Only the k highest scores survive (Fan et al. 2018); ties at the edge too.

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    edge = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < edge, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest tokens whose probability reaches p.

    The token that crosses p stays (Holtzman et al. 2020, section 3.1).

    >>> kept = keep_top_p(torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log(), 0.7)
    >>> kept.isfinite()
    tensor([[ True,  True, False, False]])
    """
    if p >= 1:  # all of them; rounded sums may reach 1 before the last token
        return logits
    ordered, order = logits.sort(descending=True, dim=-1, stable=True)
    probability = ordered.softmax(-1)
    before = probability.cumsum(-1) - probability  # what the likelier ones sum to
    p = max(p, 1e-30)  # less is 0 in fp32, and would drop the likeliest, too
    dropped = (before >= p).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, float("-inf"))


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Tokens at least p times as likely as the likeliest (Nguyen et al. 2024).

    >>> kept = keep_min_p(torch.tensor([[0.6, 0.3, 0.1]]).log(), 0.25)
    >>> kept.isfinite()
    tensor([[ True,  True, False]])
    """
    probability = logits.softmax(-1)
    edge = p * probability.amax(-1, keepdim=True)
    return logits.masked_fill(probability < edge, float("-inf"))


def adjust(logits: Tensor, sampling: Sampling, seen: Tensor | None = None) -> Tensor:
    """The scores that are really sampled from: (B, V) -> (B, V), fp32.

    Order: repetition penalty, temperature, then the cuts, each on what the last left.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0 and seen is not None:
        logits = penalize_repetition(logits, seen, sampling.repetition_penalty)
    if sampling.temperature not in (0.0, 1.0):
        logits = logits / max(sampling.temperature, 1e-20)  # less would overflow fp32
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p is not None:
        logits = keep_min_p(logits, sampling.min_p)
    return logits


def choose(
    logits: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """One token per row: logits (B, V) -> (B,). Greedy takes the first of equals."""
    logits = adjust(logits, sampling, seen)
    if sampling.temperature == 0.0:
        return logits.argmax(-1)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)


class Picked(NamedTuple):
    """A choice per row, and the log-probs of the distribution it was made from."""

    tokens: Tensor  # (B,)
    logprobs: Tensor  # (B,)
    top: Tensor  # (B, n) likeliest ids
    top_logprobs: Tensor  # (B, n) -inf for what the cuts left out


def pick(
    logits: Tensor,
    sampling: Sampling,
    chances: Tensor,
    seen: Tensor | None = None,
    top: int = 0,
) -> Picked:
    """One token per row, each by a chance of its own: logits (B, V), chances (B,).

    The same logits and chance give the same token whatever the other rows are. Chances
    lie in [0, 1), in double precision; greedy choices don't look at them. NaN among a
    row's logits makes its log-prob NaN.
    """
    logprobs = adjust(logits, sampling, seen).log_softmax(-1)
    if sampling.temperature == 0.0:
        tokens = logprobs.argmax(-1)
    else:
        tokens = pick_by_chance(logprobs.exp(), chances)
    chosen = logprobs.gather(-1, tokens[:, None]).squeeze(-1)
    likeliest = logprobs.topk(min(top, logits.shape[-1]), -1)
    return Picked(tokens, chosen, likeliest.indices, likeliest.values)


def pick_by_chance(probabilities: Tensor, chances: Tensor) -> Tensor:
    """The token whose stretch of the line from 0 to 1 a chance falls on.

    (B, V), (B,) -> (B,). The stretches lie in the order of the vocabulary.

    >>> line = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).expand(3, 4)
    >>> pick_by_chance(line, torch.tensor([0.49, 0.5, 0.99]))
    tensor([0, 2, 3])
    """
    reached = doubles(probabilities).cumsum(-1)
    total = reached[:, -1:]
    place = chances.to(reached)[:, None] * total
    place = torch.minimum(place, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(reached, place, right=True).squeeze(-1)
    last = probabilities.shape[-1] - 1
    return tokens.clamp(max=last).to(probabilities.device)  # NaN finds no place
