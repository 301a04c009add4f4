"""What is steered between rollouts: the price of KL, the length, the reward's scale.

Each is a small state with `update`; `state_dict` and `load_state_dict` resume it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from folio.config import UserError


class Resumable:
    """State is the attributes named in `STATE`, all of them numbers."""

    STATE: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state: dict[str, float]) -> None:
        for name in self.STATE:
            setattr(self, name, state[name])


class FixedKL(Resumable):
    """The same price β for ever."""

    STATE = ("beta",)

    def __init__(self, beta: float):
        if not beta >= 0:
            raise UserError(f"beta = {beta}: must be 0 or more")
        self.beta = beta

    def update(self, kl: float, samples: int) -> float:
        return self.beta


class AdaptiveKL(Resumable):
    """β rises while the KL of a response is above `target` nats, and falls below it.

    Ziegler et al. 2019, section 2.2: the error is clipped to ± 0.2, so that one odd
    rollout moves β little; after `horizon` responses it has moved by e^0.2 at most.

    >>> kl = AdaptiveKL(0.1, target=2.0)
    >>> [round(kl.update(seen, samples=500), 6) for seen in (9.0, 2.0, 1.8)]
    [0.101, 0.101, 0.100495]
    """

    STATE = ("beta",)
    LOWEST, HIGHEST = 1e-4, 1.0

    def __init__(self, beta: float, target: float, horizon: int = 10_000):
        if not self.LOWEST <= beta <= self.HIGHEST:
            raise UserError(
                f"beta = {beta}: an adaptive one lies in [{self.LOWEST}, "
                f"{self.HIGHEST}]; a fixed one may be anything"
            )
        if not target > 0:
            raise UserError(f"target = {target}: must be above 0 nats")
        if not horizon > 0:
            raise UserError(f"horizon = {horizon}: must be above 0 responses")
        self.beta, self.target, self.horizon = beta, target, horizon

    def update(self, kl: float, samples: int) -> float:
        """kl: `policy_kl` per response of a rollout of `samples`. Returns the new β."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        beta = self.beta * (1 + error * samples / self.horizon)
        self.beta = min(max(beta, self.LOWEST), self.HIGHEST)
        return self.beta


class RolloutLength(Resumable):
    """Responses may be longer while the policy stays near the reference.

    After a rollout the cap shrinks by a tenth if the KL of a response is above 1.5
    times the target, and grows by a twentieth if it is below half of it. The rule is
    ours: long responses have room for more KL. The cap is a real number, `tokens` its
    whole part: rounded at each step, 10 could never become 10.5.

    >>> length = RolloutLength(100, least=16, most=100, target=2.0)
    >>> [length.update(kl) for kl in (4.0, 4.0, 2.0, 0.5)]
    [90, 81, 81, 85]
    """

    STATE = ("cap",)

    def __init__(self, start: int, least: int, most: int, target: float):
        if not 1 <= least <= start <= most:
            raise UserError(
                f"least = {least}, start = {start}, most = {most}: must rise from 1 on"
            )
        if not target > 0:
            raise UserError(f"target = {target}: must be above 0 nats")
        self.cap, self.least, self.most = float(start), least, most
        self.target = target

    @property
    def tokens(self) -> int:
        return int(self.cap + 1e-9)

    def update(self, kl: float) -> int:
        """Between rollouts only. Returns the new cap in tokens."""
        if kl > 1.5 * self.target:
            self.cap *= 0.9
        elif kl < 0.5 * self.target:
            self.cap *= 1.05
        self.cap = min(max(self.cap, self.least), self.most)
        return self.tokens

    def counts(self, finished: Tensor) -> Tensor:
        """Which rows (B,) of a rollout at this cap may be learned from.

        A row that a *shortened* cap has cut off is left out. Were it punished as
        unfinished, the policy would learn to stop early from a fault that is ours.
        """
        if self.tokens < self.most:
            return finished.bool()
        return torch.ones_like(finished, dtype=torch.bool)


@dataclass
class RunningScale(Resumable):
    """The deviation of all rewards so far (Welford 1962; merged by Chan et al. 1979).

    `scaled` only divides: a shift of per-token rewards would pay, or fine, each token,
    and so teach length.

    >>> running = RunningScale()
    >>> running.update(torch.tensor([1.0, 2.0]))
    >>> running.update(torch.tensor([3.0, 6.0]))
    >>> running.mean, round(running.deviation, 6)
    (3.0, 1.870829)
    >>> running.scaled(torch.tensor([0.0, 3.741657]))
    tensor([0.0000, 2.0000])
    """

    STATE = ("count", "mean", "squares")

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # summed squared distances to the mean

    def update(self, x: Tensor) -> None:
        """Take in any number of values; what is not finite would poison all later."""
        x = x.detach().cpu().double().flatten()
        if not x.isfinite().all():
            raise ValueError("a reward is not finite")
        if not len(x):
            return
        mean, squares = x.mean().item(), (x - x.mean()).square().sum().item()
        total = self.count + len(x)
        apart = mean - self.mean
        self.squares += squares + apart**2 * self.count * len(x) / total
        self.mean += apart * len(x) / total
        self.count = total

    @property
    def deviation(self) -> float:
        """1 as long as nothing has varied by more than fp32 can tell."""
        deviation = math.sqrt(self.squares / max(self.count, 1))
        return deviation if deviation > 1e-6 * abs(self.mean) else 1.0

    def scaled(self, x: Tensor) -> Tensor:
        return x / self.deviation
