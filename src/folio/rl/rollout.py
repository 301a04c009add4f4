"""A rollout: what the policy said to prompts, what it earned, how likely it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from folio.data.records import Prompt
from folio.data.rows import Row, padded
from folio.rl.kl import policy_kl


class Response(NamedTuple):
    """One response and what it earned; `ids` end with END if it is finished."""

    prompt: Prompt
    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float]  # the sampler's, of ids
    text: str  # before END
    finished: bool
    reward: float
    measures: dict[str, float]  # the parts of a mixed reward, the gold one


@dataclass(frozen=True)
class Rollout:
    """N responses as rows, each `group` of them to one prompt and side by side.

    inputs, targets, weights (N, T), filled up on the right: weight 1 on the targets
    that the policy chose, the first token of the response to END. finished (N,): END
    came. counts (N,): may be learned from; rows that were cut short by us may not.
    rewards (N,). old_logprobs (N, T) by the policy that spoke, reference_logprobs and
    values (N, T) where there is a reference and a critic. sampler_logprobs (N, T) are
    only a check: what is learned from comes from the forward of the training. Unless
    `scored`, that is yet to come, and old_logprobs are the sampler's.
    """

    prompts: Sequence[Prompt]
    texts: Sequence[str]
    group: int
    inputs: Tensor
    targets: Tensor
    weights: Tensor
    finished: Tensor
    counts: Tensor
    rewards: Tensor
    sampler_logprobs: Tensor
    old_logprobs: Tensor
    scored: bool = True
    reference_logprobs: Tensor | None = None
    values: Tensor | None = None

    @cached_property
    def learned(self) -> Tensor:
        """Which targets are learned from: bool (N, T)."""
        return (self.weights != 0) & self.counts[:, None]

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each response, END included: (N,)."""
        return self.weights.sum(1)

    @cached_property
    def kl(self) -> tuple[float, float] | None:
        """Nats between policy and reference, per response and per token."""
        if self.reference_logprobs is None:
            return None
        return policy_kl(self.old_logprobs, self.reference_logprobs, self.weights)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What batches have of every rollout, whatever its baseline."""
        found = {
            "inputs": self.inputs,
            "targets": self.targets,
        }
        if self.scored:
            found["old_logprobs"] = self.old_logprobs
        else:
            found["sampler_logprobs"] = self.sampler_logprobs
        if self.reference_logprobs is not None:
            found["reference_logprobs"] = self.reference_logprobs
        return found

    @property
    def sampler_difference(self) -> float:
        """The largest |sampler's - scored| log-prob: rounding, or something is wrong.

        Another temperature, a cut of the distribution, a shifted mask, a stale cache
        or dropout all show here, where fp32 rounds to 1e-6. Training in bf16, which
        the sampler doesn't, makes it 0.05.
        """
        apart = (self.sampler_logprobs - self.old_logprobs).abs()
        return apart[self.weights != 0].max().item()


class Rows(NamedTuple):
    """Responses as tensors (N, T), filled up on the right."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    logprobs: Tensor  # the sampler's


def as_rows(responses: Sequence[Response], pad: int) -> Rows:
    """Prompt and response as one row each, shifted by one: first weight, first token.

    >>> prompt = Prompt(({"role": "user", "content": "?"},), "", "")
    >>> said = Response(prompt, [5, 6], [7, 8], [-1.0, -2.0], "", True, 0.0, {})
    >>> rows = as_rows([said], pad=0)
    >>> rows.inputs, rows.targets
    (tensor([[5, 6, 7]]), tensor([[6, 7, 8]]))
    >>> rows.weights, rows.logprobs
    (tensor([[0., 1., 1.]]), tensor([[ 0., -1., -2.]]))
    """
    ids = [np.array(r.prompt_ids + r.ids) for r in responses]
    chosen = [np.ones(len(row), dtype=np.float32) for row in ids]
    for weight, response in zip(chosen, responses, strict=True):
        weight[: len(response.prompt_ids)] = 0
    batch = padded([Row(*row) for row in zip(ids, chosen, strict=True)], pad)
    logprobs = torch.zeros_like(batch.weights)
    logprobs[batch.weights != 0] = torch.tensor(
        [logprob for response in responses for logprob in response.logprobs]
    )
    return Rows(batch.inputs, batch.targets, batch.weights, logprobs)
