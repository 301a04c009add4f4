"""Mixture of experts: many feed-forward parts, of which each token uses a few."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.attention import Shared
from folio.model.config import ModelConfig
from folio.model.mlp import ACTIVATIONS, make_mlp

HAS_KERNEL = hasattr(F, "grouped_mm")  # since torch 2.10


class Choice(NamedTuple):
    """Where a router sends N tokens."""

    experts: Tensor  # (N, k) numbers of the chosen experts
    weights: Tensor  # (N, k) how much each counts
    shares: Tensor  # (N, E) the router's opinion of all, rows sum to one
    logits: Tensor  # (N, E)


class PreciseLinear(nn.Linear):
    """A linear layer that works in fp32 at least, whatever the model is in.

    Rounded to bf16, close scores become equal, and small changes of them nothing.
    """

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        kind = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(kind), self.weight.to(kind))


class Router(nn.Module):
    """Scores every expert for every token, and picks the best few.

    softmax: the top k of the probabilities (Shazeer et al. 2017; Mixtral).
    sigmoid: the top k of score + bias, where the bias only steers the choice and isn't
    part of the weights (DeepSeek-V3, section 2.1.2).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.options = config.experts
        self.score = PreciseLinear(config.d_model, self.options.count, bias=False)
        if self.options.router == "sigmoid":
            self.register_buffer("bias", torch.zeros(self.options.count))

    def _apply(self, fn, recurse: bool = True) -> Router:
        """Move with the model, but keep the bias fp32: its steps are small."""
        exact = self._buffers.get("bias")
        super()._apply(fn, recurse)
        if exact is not None and not exact.is_meta and not self.bias.is_meta:
            self.bias = exact.to(self.bias.device)
        return self

    def forward(self, x: Tensor) -> Choice:  # (N, D)
        logits = self.score(x)
        if self.options.router == "sigmoid":
            scores = logits.sigmoid()
            experts = (scores + self.bias).topk(self.options.active, -1).indices
            shares = scores / scores.sum(-1, keepdim=True)
        else:
            scores = shares = logits.softmax(-1)
            experts = scores.topk(self.options.active, -1).indices
        weights = scores.gather(-1, experts)
        if self.options.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return Choice(experts, weights, shares, logits)


def grouped_linear(x: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Each group of rows by its own matrix: (M, I), (E, O, I), (E,) -> (M, O).

    The first counts[0] rows go through weights[0], and so on. One kernel does it
    where it can, and need not wait for the counts to arrive from a GPU; autocast
    doesn't know of it.
    """
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weights = x.to(kind), weights.to(kind)
    if kernel_can(x, weights):
        ends = counts.cumsum(0).int()
        return F.grouped_mm(x, weights.transpose(-2, -1), offs=ends)
    groups = zip(x.split(counts.tolist()), weights.unbind(), strict=True)
    return torch.cat([rows @ weight.T for rows, weight in groups])


def kernel_can(x: Tensor, weights: Tensor) -> bool:
    """Its compiled form knows bf16 alone, and it reads rows 16 bytes at a time."""
    if torch.compiler.is_compiling():
        known = x.dtype == torch.bfloat16
    else:
        known = x.dtype in (torch.bfloat16, torch.float16, torch.float32)
    even = all(width * x.element_size() % 16 == 0 for width in weights.shape[1:])
    return HAS_KERNEL and known and even


class Experts(nn.Module):
    """E feed-forward parts without biases, their weights stacked."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        count, width = config.experts.count, config.expert_width
        self.activation = ACTIVATIONS[config.mlp]
        self.gate = None
        if config.gated:
            self.gate = nn.Parameter(torch.empty(count, width, config.d_model))
        self.up = nn.Parameter(torch.empty(count, width, config.d_model))
        self.down = nn.Parameter(torch.empty(count, config.d_model, width))

    def one(self, x: Tensor, expert: int) -> Tensor:
        """What a single expert makes of x (N, D) -> (N, D): to be read."""
        up = x @ self.up[expert].T
        if self.gate is None:
            hidden = self.activation(up)
        else:
            hidden = self.activation(x @ self.gate[expert].T) * up
        return hidden @ self.down[expert].T

    def all(self, x: Tensor, counts: Tensor) -> Tensor:
        """x (M, D), sorted by expert, of which each has `counts` (E,) -> (M, D)."""
        up = grouped_linear(x, self.up, counts)
        if self.gate is None:
            hidden = self.activation(up)
        else:
            hidden = self.activation(grouped_linear(x, self.gate, counts)) * up
        return grouped_linear(hidden, self.down, counts)

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """x (N, D) -> (N, D): tokens sorted by expert, so each expert runs once.

        No expert has a capacity: no token is ever dropped.
        """
        k = choice.experts.shape[-1]
        chosen = choice.experts.flatten()  # (N k,)
        order = chosen.argsort(stable=True)
        counts = chosen.bincount(minlength=len(self.up))
        done = self.all(x[order // k], counts)
        done = done[order.argsort()].unflatten(0, (-1, k))  # (N, k, D)
        return (done * choice.weights[..., None].to(done.dtype)).sum(1)


def mix_reference(experts: Experts, x: Tensor, choice: Choice) -> Tensor:
    """Every expert for every token, weighted by zero where not chosen: as on paper."""
    weights = torch.zeros_like(choice.shares)
    weights.scatter_(-1, choice.experts, choice.weights)  # (N, E)
    return sum(
        weights[:, e, None] * experts.one(x, e) for e in range(weights.shape[-1])
    )


def choices_counted(choice: Choice, real: Tensor) -> Tensor:
    """How often each expert was chosen in each row, all k times: (B, E), whole numbers.

    real (B, T): which tokens count, those that aren't padding.
    """
    rows, k = len(real), choice.experts.shape[-1]
    counts = real.new_zeros(rows, choice.shares.shape[-1], dtype=torch.long)
    times = real.long().repeat_interleave(k, 1)  # (B, T k)
    return counts.scatter_add_(1, choice.experts.view(rows, -1), times)


def balance_loss(choice: Choice, real: Tensor) -> Tensor:
    """Is the work spread evenly? One number per row, 1 if it is, up to E / k if not.

    E times the sum over experts of (share of the row's choices that it got, all k of
    them) x (mean share that the router gave it) (Fedus et al. 2021, eq. 4; per
    sequence as DeepSeek-V3, eq. 17). Per row, so that accumulated micro-batches and
    several ranks have the gradient of one batch. real (B, T): not padding.
    """
    got = choices_counted(choice, real).float()
    got = got / got.sum(-1, keepdim=True).clamp(min=1)
    given = choice.shares.view(*real.shape, -1) * real[..., None]  # (B, T, E)
    given = given.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
    return choice.shares.shape[-1] * (got * given).sum(-1)


def z_loss(choice: Choice, real: Tensor) -> Tensor:
    """Mean squared log of the router's normalizer, per row: keeps its logits small.

    (Zoph et al. 2022, ST-MoE, eq. 5.)
    """
    square = choice.logits.logsumexp(-1).square().view(real.shape) * real
    return square.sum(1) / real.sum(1).clamp(min=1)


class MixtureOfExperts(nn.Module):
    """A router, its experts, and, if asked, experts that every token shares."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.options = config.experts
        self.router = Router(config)
        self.experts = Experts(config)
        self.shared_expert = None
        if self.options.shared:
            self.shared_expert = make_mlp(
                config, self.options.shared * config.expert_width
            )
        # Tokens that each expert got since the last look, in training
        load = torch.zeros(self.options.count, dtype=torch.long)
        self.register_buffer("load", load, persistent=False)

    def forward(self, x: Tensor, shared: Shared) -> Tensor:  # (B, T, D) -> (B, T, D)
        flat = x.flatten(0, 1)
        choice = self.router(flat)
        y = self.experts(flat, choice).view_as(x)
        if self.shared_expert is not None:
            y = y + self.shared_expert(x)
        if self.training:
            self._note(choice, shared)
        return y

    def _note(self, choice: Choice, shared: Shared) -> None:
        """Leave the router's losses to the objective, and count who got how much."""
        length = shared.positions.shape[1]
        rows = len(choice.experts) // length
        real = (shared.positions >= 0).expand(rows, length)
        loss = 0.0
        if self.options.balance:
            loss = self.options.balance * balance_loss(choice, real)
        if self.options.z_loss:
            loss = loss + self.options.z_loss * z_loss(choice, real)
        if isinstance(loss, Tensor):
            shared.router_losses.append(loss)
        self.load += choices_counted(choice, real).sum(0)


def routers_of(model: nn.Module) -> dict[str, MixtureOfExperts]:
    """Every mixture of experts in `model`, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MixtureOfExperts)
    }


@torch.no_grad()
def balance_routers(
    model: nn.Module, add_ranks: Callable[[Tensor], Tensor] = lambda x: x
) -> dict[str, Tensor]:
    """Share of the choices that each expert got since the last call, by layer.

    Sigmoid routers with a bias_rate are nudged: the bias of experts that got more than
    their part sinks by it, that of the others rises (Wang et al. 2024), unless the
    router is frozen. `add_ranks` sums over processes, so that all nudge alike. Where
    layers are checkpointed tokens may be counted twice, all of them alike: the shares
    are the same.
    """
    shares = {}
    for name, moe in routers_of(model).items():
        load = add_ranks(moe.load.float())
        moe.load.zero_()
        if not load.sum():
            continue
        if moe.options.bias_rate and moe.router.score.weight.requires_grad:
            too_few = (load.mean() - load).sign()
            moe.router.bias += moe.options.bias_rate * too_few
        shares[name] = load / load.sum()
    return shares
