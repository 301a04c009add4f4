"""What a reward is measured against: the group's mean, or what a critic expected."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from folio.config import UserError
from folio.objectives.grpo import response_weights
from folio.rl.advantage import (
    dead_groups,
    explained_variance,
    gae,
    group_advantages,
    whiten,
)
from folio.rl.control import AdaptiveKL, FixedKL, RunningScale
from folio.rl.kl import shaped_rewards
from folio.rl.rollout import Rollout


class Lesson(NamedTuple):
    """What a rollout teaches: tensors (N, ...) for its batches, numbers for the log."""

    tensors: dict[str, Tensor]
    metrics: dict[str, float]


class Baseline(Protocol):
    """How advantages come about, and how tokens weigh."""

    needs_critic: bool
    needs_reference: bool
    needs_scores: bool  # log-probs and values by the forward of the training

    def lesson(self, rollout: Rollout) -> Lesson:
        """Advantages and what else the objective reads; may steer its own price."""

    def weigh(self, mask: Tensor) -> tuple[Tensor, float]:
        """Weights (B, T) and denominator of a batch with this mask (B, T)."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class GroupBaseline:
    """GRPO's: how much better a response was than the others to the same prompt.

    scale: see `group_advantages`; aggregation and longest: see `response_weights`. The
    denominator of a batch counts its own rows, so minibatches, micro-batches and ranks
    can be cut in any way.
    """

    needs_critic = needs_reference = needs_scores = False

    def __init__(
        self,
        scale: Literal["none", "group", "batch"] = "group",
        aggregation: Literal["token", "sequence", "constant"] = "token",
        longest: int | None = None,
    ):
        self.scale, self.aggregation, self.longest = scale, aggregation, longest
        group_advantages(torch.zeros(1), 1, scale)  # refuses what can't be
        response_weights(torch.ones(1, 1), aggregation, longest)

    def lesson(self, rollout: Rollout) -> Lesson:
        rewards, group, counts = rollout.rewards, rollout.group, rollout.counts
        gains = group_advantages(rewards, group, self.scale, counts)
        dead = dead_groups(rewards, group, counts)
        return Lesson(
            {"advantages": gains[:, None] * rollout.learned},  # (N, T)
            {"dead_groups": dead.float().mean().item()},
        )

    def weigh(self, mask: Tensor) -> tuple[Tensor, float]:
        return response_weights(mask, self.aggregation, self.longest)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class CriticBaseline:
    """PPO's: how much better it went on from a token than the critic had expected.

    The score comes with the last token, clipped to ± limit; every token pays
    kl.beta · (log π - log reference). gamma, lam: see `gae`. A row without END ended
    there, as a punishment: nothing is expected behind it. whitened: advantages have
    mean 0 and deviation 1 over the whole rollout; returns stay as they are. scale:
    scores are divided by the deviation of all so far.
    """

    needs_critic = needs_scores = True

    def __init__(
        self,
        kl: FixedKL | AdaptiveKL,
        gamma: float = 1.0,
        lam: float = 0.95,
        limit: float = 5.0,
        whitened: bool = True,
        scale: RunningScale | None = None,
    ):
        for name, value in (("gamma", gamma), ("lam", lam)):
            if not 0 <= value <= 1:
                raise UserError(f"{name} = {value}: must lie between 0 and 1")
        if not limit > 0:
            raise UserError(f"limit = {limit}: must be above 0")
        self.kl, self.gamma, self.lam, self.limit = kl, gamma, lam, limit
        self.whitened, self.scale = whitened, scale

    @property
    def needs_reference(self) -> bool:
        """A price that is 0 for ever needs none."""
        return not (isinstance(self.kl, FixedKL) and self.kl.beta == 0)

    def lesson(self, rollout: Rollout) -> Lesson:
        mask, old, values = rollout.learned, rollout.old_logprobs, rollout.values
        reference = rollout.reference_logprobs
        scores, beta = rollout.rewards, self.kl.beta
        if self.scale is not None:
            self.scale.update(scores[rollout.counts])
            scores = self.scale.scaled(scores)
        rewards = shaped_rewards(
            scores, old, old if reference is None else reference, mask, beta, self.limit
        )
        advantages, returns = gae(rewards, values, mask, self.gamma, self.lam)
        spread = returns[mask].std(correction=0) if mask.any() else torch.tensor(0.0)
        if rollout.kl is not None:
            self.kl.update(rollout.kl[0], samples=len(scores))
        return Lesson(
            {
                "advantages": whiten(advantages, mask) if self.whitened else advantages,
                "returns": returns,
                "old_values": torch.where(mask, values, 0.0),
                "return_std": spread.expand(len(scores)),
            },
            {
                "beta": beta,
                "value": values[mask].mean().item() if mask.any() else 0.0,
                "return_std": spread.item(),
                "explained_variance": explained_variance(values, returns, mask),
            },
        )

    def weigh(self, mask: Tensor) -> tuple[Tensor, float]:
        return response_weights(mask, "token")

    def state_dict(self) -> dict[str, Any]:
        scale = None if self.scale is None else self.scale.state_dict()
        return {"kl": self.kl.state_dict(), "scale": scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kl.load_state_dict(state["kl"])
        if self.scale is not None:
            self.scale.load_state_dict(state["scale"])
