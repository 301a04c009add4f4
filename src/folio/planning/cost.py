"""How long a training takes on other machines, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.model.count import flops_per_token
from folio.planning.communication import sent
from folio.planning.memory import Sharding
from folio.planning.work import Work

HOUR = 3600.0


@dataclass(frozen=True)
class Machine:
    """One device of many alike."""

    memory: float  # bytes
    flops: float  # operations per second at its peak, in the precision used
    mfu: float = 0.4  # share of the peak that a step's own operations reach
    bandwidth: float | None = None  # bytes per second that it sends; none: no limit
    price: float | None = None  # of an hour

    def __post_init__(self) -> None:
        for name in ("memory", "flops", "bandwidth", "price"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"--{flag_of(name)} = {value:g}: must be above 0")
        if not 0 < self.mfu <= 1:
            raise UserError(
                f"--mfu = {self.mfu:g}: a share of the peak, above 0 and at most 1; "
                "0.4 is usual"
            )


def flag_of(name: str) -> str:
    return {"flops": "tflops"}.get(name, name)


@dataclass(frozen=True)
class Cost:
    """Of a whole training."""

    steps: int
    tokens: int
    flops: float  # of the model, without what is computed again
    compute: float  # seconds of a step
    data: float  # seconds to send gradients and weights, beside the computing
    tensor: float  # seconds to send activations, which computing waits for
    devices: int
    price: float | None

    @property
    def step(self) -> float:
        """Seconds of a step: gradients travel while others are computed."""
        return max(self.compute, self.data) + self.tensor

    @property
    def hours(self) -> float:
        return self.steps * self.step / HOUR

    @property
    def device_hours(self) -> float:
        return self.devices * self.hours

    @property
    def money(self) -> float | None:
        return None if self.price is None else self.price * self.device_hours


def training_flops(parameters: float, tokens: float) -> float:
    """6 N D: two operations forward and four back for each weight and token.

    (Kaplan et al. 2020, section 2.1; `flops_per_token` counts attention too.)

    >>> f"{training_flops(175e9, 300e9):.3g}"  # GPT-3 (Brown et al. 2020): 3.14e23
    '3.15e+23'
    """
    return 6 * parameters * tokens


def cost(
    config: ModelConfig,
    work: Work,
    sharding: Sharding,
    machine: Machine,
    *,
    steps: int | None = None,
    tokens: float | None = None,
) -> Cost:
    """Of so many steps, or of as many as `tokens` take."""
    per_step = work.tokens * work.accumulate * sharding.copies
    if steps is None:
        steps = max(1, round(tokens / per_step))
    flops = per_step * flops_per_token(config, work.length)
    again = 4 / 3 if work.checkpoint_layers else 1  # the forward is a third of it
    traffic = sent(config, work, sharding)
    activations = traffic.pop("activations", 0.0)
    speed = machine.bandwidth or float("inf")
    return Cost(
        steps=steps,
        tokens=steps * per_step,
        flops=steps * flops,
        compute=again * flops / (sharding.devices * machine.flops * machine.mfu),
        data=sum(traffic.values()) / speed,
        tensor=activations / speed,
        devices=sharding.devices,
        price=machine.price,
    )
