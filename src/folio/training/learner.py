"""A model that learns: one optimizer step from a list of micro-batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from folio.config import UserError
from folio.data.batch import Batch
from folio.optim.schedule import Schedule, constant
from folio.runtime import PRECISIONS, anyone, data_world, world_size
from folio.training.gradients import gradient_norms
from folio.training.nonfinite import NonFiniteError, first_nonfinite
from folio.training.parallel import Alone, spread, sum_over_ranks
from folio.training.scaler import LossScaler
from folio.training.twin import Twin

TWIN = "bf16-weights"
Objective = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


class Learner:
    """A model, its optimizer and schedule, and how many steps they have made.

    `model` is the plain module, saved and sampled from; `forward` is the same weights
    wrapped, compiled or rounded, and what training calls. The loss of a step is the sum
    over micro-batches and ranks divided once by the sum of their denominators, so that
    accumulation and data parallelism change nothing but rounding.

    precision: "bf16" and "fp16" are autocast's: products in it, weights in fp32.
    "bf16-weights" computes with a twin in bf16 of the weights (see
    `folio.training.twin`). compiled: by `torch.compile`, anew for shapes that change.
    on_nonfinite: "stop" raises `NonFiniteError` before the optimizer can step; "skip"
    drops the update, and stops after three in a row. watch_gradients: the metrics have
    the norm of each layer's gradient, too.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule | None = None,
        *,
        max_norm: float | None = 1.0,
        precision: Literal["fp32", "bf16", "fp16", "bf16-weights"] = "fp32",
        compiled: bool = False,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        watch_gradients: bool = False,
        ranks: Alone | None = None,
    ):
        if precision not in (*PRECISIONS, TWIN):
            names = ", ".join(PRECISIONS)
            raise UserError(f"precision = {precision!r}: choose {names} or {TWIN}")
        self.model, self.optimizer = model, optimizer
        self.schedule = schedule or constant()
        self.max_norm, self.precision = max_norm, precision
        self.on_nonfinite, self.watch_gradients = on_nonfinite, watch_gradients
        # where weights are in parts, these are rounded as they come together
        self.twin = Twin(model) if precision == TWIN and not ranks else None
        self.ranks = ranks or spread(model, self.twin.model if self.twin else None)
        self.forward = self.ranks.forward
        if compiled:
            self.forward = torch.compile(self.forward)
        self.scaler = LossScaler(enabled=precision == "fp16")
        self.step = 0
        self.denominator = 0.0  # of all steps so far: for next_token, tokens seen
        self.skipped_in_a_row = 0
        self._peak = [group["lr"] for group in optimizer.param_groups]

    @property
    def device(self) -> torch.device:
        return self.ranks.device

    @property
    def computing(self) -> nn.Module:
        """The plain module whose arithmetic training has: the model, or its twin."""
        return self.twin.model if self.twin else self.model

    def refresh(self) -> None:
        """Bring `computing` up to the model's weights, as every update does first."""
        if self.twin:
            self.twin.round()

    def update(
        self, batches: Sequence[Batch], objective: Objective
    ) -> dict[str, float]:
        """One optimizer step. Returns each metric's weighted mean, lr and norm."""
        self.model.train()
        self.forward.train()
        self.refresh()
        batches = [batch.to(self.device) for batch in batches]
        total = self._sum(sum(batch.denominator for batch in batches))
        if total == 0:
            raise UserError(
                f"step {self.step}: no target has weight in this batch; every token is "
                "masked, so there is nothing to learn from"
            )
        sums = self._backward(batches, objective, total)
        learned = self.ranks.gradients()
        self.scaler.unscale([parameter.grad for parameter in learned])
        norm = self.ranks.norm(learned)  # of the whole gradient, not clipped yet
        metrics = self._means(sums, norm, total)
        if self.watch_gradients:
            metrics |= gradient_norms(self.ranks)
        if self._finite(metrics["loss"], metrics["grad_norm"], batches, objective):
            self._step_optimizer(learned, norm)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.denominator += total
        return metrics

    def _sum(self, value: float) -> float:
        if world_size() == 1:
            return float(value)
        tensor = torch.tensor(value, device=self.device, dtype=torch.float64)
        return sum_over_ranks(tensor).item()

    def _backward(
        self, batches: Sequence[Batch], objective: Objective, total: float
    ) -> dict[str, Tensor]:
        """Gradients of the whole step, and the sums of the loss and each metric."""
        sums: dict[str, Tensor] = {}
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with self._communicate(only_if=last):
                with self.autocast():
                    loss, metrics = objective(self.forward, batch)
                # DDP averages over ranks, where the sum was meant
                self.scaler.scale(loss * (data_world() / total)).backward()
            if self.twin and (last or world_size() == 1):
                self.twin.hand_over()
            for name, value in ({"loss": loss} | metrics).items():
                sums[name] = sums.get(name, 0) + value.detach().float()
        return sums

    def _communicate(self, only_if: bool) -> contextlib.AbstractContextManager:
        """Reduce gradients once a step: after the last micro-batch."""
        return contextlib.nullcontext() if only_if else self.ranks.accumulate()

    def autocast(self) -> contextlib.AbstractContextManager:
        """Matrix products in the chosen precision; weights stay fp32."""
        if self.precision in ("fp32", TWIN):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    def _means(
        self, sums: dict[str, Tensor], norm: Tensor, total: float
    ) -> dict[str, float]:
        """One reduction and one transfer for all metrics."""
        stacked = sum_over_ranks(torch.stack(list(sums.values()))) / total
        values = torch.cat([stacked, norm.detach().float().view(1)]).tolist()
        return dict(zip([*sums, "grad_norm"], values, strict=True)) | {
            "lr": self._peak[0] * self.schedule(self.step),
        }

    def _finite(
        self,
        loss: float,
        norm: float,
        batches: Sequence[Batch],
        objective: Objective,
    ) -> bool:
        """May the optimizer step? If not, stop or skip, and say what broke first."""
        bad = not (abs(loss) < float("inf") and norm < float("inf"))
        bad = anyone(bad)
        may_lower = self.scaler.may_lower
        self.scaler.update(overflow=bad)
        if not bad:
            self.skipped_in_a_row = 0
            return True
        if may_lower and abs(loss) < float("inf"):
            return False  # fp16 overflow: the scale has been lowered, go on
        self.skipped_in_a_row += 1
        if self.on_nonfinite == "stop" or self.skipped_in_a_row >= 3:
            model, ranks = self.ranks.module, self.ranks
            where = first_nonfinite(model, batches, objective, self.autocast, ranks)
            raise NonFiniteError(
                f"step {self.step}: loss {loss}, gradient norm {norm}; {where}; the "
                "weights were not touched. Lower --optim.lr, or use --train.precision "
                "fp32"
            )
        return False

    def _step_optimizer(self, learned: list[nn.Parameter], norm: Tensor) -> None:
        # Clipping by a norm of NaN would make every gradient NaN and hide the
        # first one, so it waits until the norm is known to be finite.
        if self.max_norm is not None:
            self.ranks.clip(learned, self.max_norm, norm)
        factor = self.schedule(self.step)
        for group, peak in zip(self.optimizer.param_groups, self._peak, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        # torch's fused kernels write without a word; an engine that remembers prompts
        # would go on answering from what the old weights made of them.
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                increment_version(parameter)
