"""Loss scaling: keep small fp16 gradients from vanishing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class LossScaler:
    """Multiply the loss before backward, divide the gradients after.

    The scale halves when a gradient overflows and doubles after `patience` good steps
    (Micikevicius et al. 2018, section 3.2). Disabled, it does nothing.
    """

    def __init__(self, enabled: bool, scale: float = 2.0**16, patience: int = 2000):
        self.enabled, self.patience = enabled, patience
        self.value = scale if enabled else 1.0
        self.good_steps = 0

    @property
    def may_lower(self) -> bool:
        """Whether an overflow can be the scale's fault; at 1 it is the model's."""
        return self.enabled and self.value > 1.0

    def scale(self, loss: Tensor) -> Tensor:
        return loss * self.value if self.enabled else loss

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        if self.enabled:
            torch._foreach_div_(list(gradients), self.value)

    def update(self, overflow: bool) -> None:
        """Learn from one step whether its gradients overflowed."""
        if not self.enabled:
            return
        self.good_steps = 0 if overflow else self.good_steps + 1
        if overflow:
            self.value = max(1.0, self.value / 2)
        elif self.good_steps == self.patience:
            self.value *= 2
            self.good_steps = 0

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value, self.good_steps = state["value"], int(state["good_steps"])
