"""AdamW: steps of even size in every direction, and decay apart from the gradient."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.optim.groups import decay_groups


def adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> None:
    """One update, in place, of one tensor (Loshchilov & Hutter 2019, algorithm 2).

    `mean` and `square` are the running averages of the gradient and its square;
    `step` counts from 1. `torch.optim.AdamW`, which training uses, does the same.

    >>> p, m, s = torch.ones(1), torch.zeros(1), torch.zeros(1)
    >>> adamw_step(p, torch.tensor([5.0]), m, s, 1, lr=0.1, weight_decay=0.0)
    >>> p  # the first step has size lr, however large the gradient
    tensor([0.9000])
    """
    parameter.mul_(1 - lr * weight_decay)
    mean.lerp_(gradient, 1 - betas[0])
    square.lerp_(gradient.square(), 1 - betas[1])
    mean_hat = mean / (1 - betas[0] ** step)  # the averages began at zero: undo that
    square_hat = square / (1 - betas[1] ** step)
    parameter.sub_(lr * mean_hat / (square_hat.sqrt() + eps))


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW, without what keeps PyTorch's compiler out of its methods.

    To switch the compiler off, those import it, and that takes a second which a short
    training doesn't have.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def adamw(
    model: nn.Module,
    lr: float = 3e-4,
    *,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    rates: Mapping[str, float] | None = None,
) -> AdamW:
    """Fused AdamW over `model`: decay on matrices, none on vectors.

    `rates`: learning rates of parts that have another than `lr`, by their names.
    """
    if not (lr > 0 and eps > 0 and weight_decay >= 0):
        raise UserError(
            f"lr = {lr}, eps = {eps}, weight_decay = {weight_decay}: the first two "
            "must be above 0, the last 0 or more"
        )
    if not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"betas = {betas}: each must lie in [0, 1)")
    groups = decay_groups(model, weight_decay, rates)
    return AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
