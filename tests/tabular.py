"""Tiny policies that are tables, for objectives: every number can be set and seen."""

from types import SimpleNamespace

import torch
from torch import nn


class Table(nn.Module):
    """One row of logits and a value for each place of one batch: (B, T, V), (B, T)."""

    def __init__(self, rows=4, length=5, vocab=6, seed=0, router_loss=None):
        super().__init__()
        make = torch.Generator().manual_seed(seed)
        logits = torch.randn(rows, length, vocab, generator=make, dtype=torch.float64)
        values = torch.randn(rows, length, generator=make, dtype=torch.float64)
        self.logits, self.values = nn.Parameter(logits), nn.Parameter(values)
        self.router_loss = router_loss
        self.calls = []

    def forward(self, inputs, targets=None, entropy=False, where=None, temperature=1.0):
        self.calls.append((inputs, targets))
        logprobs = (self.logits / temperature).log_softmax(-1)
        said = None
        if targets is not None:
            said = logprobs.gather(-1, targets[..., None])[..., 0]
            if where is not None:
                said = torch.where(where, said, 0.0)
        return SimpleNamespace(
            logits=self.logits if targets is None else None,
            logprobs=said,
            values=self.values,
            router_loss=self.router_loss,
            entropy=-(logprobs.exp() * logprobs).sum(-1) if entropy else None,
        )


class States(nn.Module):
    """A policy and a critic over numbered states: inputs (B, T) are the states."""

    def __init__(self, states: int, actions: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states, actions))
        self.critic = nn.Parameter(torch.zeros(states))

    def forward(self, inputs, targets, where=None, temperature=1.0):
        """`where` is an offer to do less, which a table has no use for."""
        logprobs = (self.logits / temperature).log_softmax(-1)[inputs]
        return SimpleNamespace(
            logprobs=logprobs.gather(-1, targets[..., None])[..., 0],
            values=self.critic[inputs],
            router_loss=None,
        )


def check_gradient(objective, model, batch, names, step=1e-6, tolerance=1e-6):
    """The gradient of the summed loss, against differences, entry by entry."""
    model.zero_grad()
    objective(model, batch)[0].backward()
    for name in names:
        parameter = getattr(model, name)
        flat, found = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(len(flat)):
            kept, losses = flat[i].item(), []
            for shift in (step, -step):
                flat[i] = kept + shift
                with torch.no_grad():
                    losses.append(objective(model, batch)[0].item())
            flat[i] = kept
            wanted = (losses[0] - losses[1]) / (2 * step)
            assert abs(found[i].item() - wanted) < tolerance * (1 + abs(wanted)), name
