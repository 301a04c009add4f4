"""Muon: every matrix takes a step of even size in all its directions at once.

AdamW evens out a step number by number. A matrix is more than its numbers: what counts
is how it turns and stretches, and of that a gradient holds a few directions that are
large and many that are all but lost. Muon takes the momentum and replaces it by the
nearest matrix that stretches nothing, so that all directions learn alike (Jordan et
al. 2024). Embeddings, the head and vectors are no such maps, and stay with AdamW.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.optim.adamw import AdamW
from folio.optim.groups import decay_groups

MATRIX = re.compile(r"(^|\.)blocks\.\d+\.(?!.*lora)")  # names of what Muon may take
# Of x, x³ and x⁵, in turn: each step widens what the one before has left (Amsel et al.
# 2025, "The Polar Express", table 1; made for singular values from 0.001 to 1).
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
SAFETY = 1.01  # so much smaller before each polynomial: above 1 they lead astray


def orthogonalized(x: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix whose singular values are all 1, or about that.

    x (..., M, N) -> (..., M, N). By odd polynomials of products, for a processor does
    those far sooner than it finds singular values. After five they end between 0.87
    and 1.13 if they were above a thousandth of the matrix's norm; after three, most are
    between 0.2 and 1.9, and training hardly minds.

    >>> q = orthogonalized(torch.tensor([[3.0, 0.0], [0.0, -0.02]]))
    >>> bool((q.abs() - torch.eye(2)).abs().max() < 0.15), q[1, 1].item() < 0
    (True, True)
    """
    wide = x if x.shape[-2] <= x.shape[-1] else x.mT
    size = torch.linalg.matrix_norm(wide.float(), keepdim=True).to(wide.dtype)
    wide = wide / (size + 1e-7)
    for a, b, c in POLAR_EXPRESS[:rounds]:
        wide = wide / SAFETY
        square = wide @ wide.mT
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide if x.shape[-2] <= x.shape[-1] else wide.mT


class Parts(Protocol):
    """Where each process has a part of a tensor; `training.sharded` is such a place."""

    def whole(self, name: str, mine: Tensor) -> Tensor: ...

    def part(self, name: str, whole: Tensor) -> Tensor: ...


class Muon(AdamW):
    """Muon for groups with `"muon": True`, AdamW for the others: one optimizer.

    A step has a root mean square of 0.2 lr, about that of AdamW's, so that both may
    share a rate and its decay (Liu et al. 2025, "Muon is scalable", section 2.2).
    A group's momentum is Nesterov's. Matrices may be stacked, as those of experts are.
    rounds, dtype: of the polynomials, which bear being rough; the rest is in fp32.
    parts: where processes have but a part of each matrix, how one is put together for
    the polynomials, and how its part of the step is taken; all of them ask at once.
    """

    def __init__(
        self,
        groups: list[dict],
        lr: float,
        momentum: float,
        rounds: int = 5,
        dtype: torch.dtype = torch.float32,
        parts: Parts | None = None,
        **options,
    ):
        super().__init__(groups, lr=lr, **options)
        self.momentum, self.rounds, self.dtype = momentum, rounds, dtype
        self.parts = parts

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None):
        """One update of everything that has a gradient."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict) -> None:
        """Matrices of one shape go through the polynomials together.

        Where they are in parts, one at a time, so that no more is ever whole.
        """
        alike: dict[object, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if parameter.grad is not None:
                key = tuple(parameter.shape) if self.parts is None else name
                alike.setdefault(key, []).append((name, parameter))
        for found in alike.values():
            steps = self._steps(found)
            size = 0.2 * math.sqrt(max(steps[0].shape[-2:])) * group["lr"]
            for (name, parameter), step in zip(found, steps, strict=True):
                if self.parts is not None:
                    step = self.parts.part(name, step)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(step.to(parameter.dtype), alpha=size)

    def _steps(self, found: list[tuple[str, nn.Parameter]]) -> Tensor:
        """The direction of each of some matrices of one shape: whole, and stacked."""
        pushes = (self._push(parameter).to(self.dtype) for _, parameter in found)
        if self.parts is not None:
            names = (name for name, _ in found)
            pushes = map(self.parts.whole, names, pushes)
        return orthogonalized(torch.stack(tuple(pushes)), self.rounds)

    def _push(self, parameter: nn.Parameter) -> Tensor:
        """The gradient, with the momentum that it has just been added to."""
        state, gradient = self.state[parameter], parameter.grad
        if "mean" not in state:
            state["mean"] = torch.zeros_like(gradient)
        state["mean"].lerp_(gradient, 1 - self.momentum)
        return gradient.lerp(state["mean"], self.momentum)


def muon(
    model: nn.Module,
    lr: float = 0.01,
    *,
    momentum: float = 0.95,
    rounds: int = 5,
    dtype: torch.dtype = torch.float32,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    rates: Mapping[str, float] | None = None,
    parts: Parts | None = None,
) -> Muon:
    """Muon for the matrices inside of blocks, AdamW for all else (see `adamw`).

    UserError for settings that can't be, and for a model without such matrices.
    """
    if not 0 <= momentum < 1:
        raise UserError(f"momentum = {momentum}: must lie in [0, 1)")
    if not 1 <= rounds <= len(POLAR_EXPRESS):
        raise UserError(f"rounds = {rounds}: from 1 to {len(POLAR_EXPRESS)}")
    groups: list[dict] = []
    for group in decay_groups(model, weight_decay, rates):
        for matrices in (True, False):
            pairs = [
                (name, parameter)
                for name, parameter in zip(group["names"], group["params"], strict=True)
                if matrices == (parameter.ndim >= 2 and bool(MATRIX.search(name)))
            ]
            if pairs:
                names, parameters = map(list, zip(*pairs, strict=True))
                named = {"names": names, "params": parameters, "muon": matrices}
                groups.append(group | named)
    if not any(group["muon"] for group in groups):
        raise UserError(
            "kind = 'muon': no matrix inside of a block is trained; use adamw"
        )
    options = {"betas": betas, "eps": eps, "fused": True}
    return Muon(groups, lr, momentum, rounds, dtype, parts, **options)
