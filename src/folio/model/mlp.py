"""The feed-forward part: each token thinks for itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.config import ModelConfig


class GeluMLP(nn.Module):
    """Widen, bend, narrow: down(gelu(up(x))), as in GPT-2 (tanh form of GELU)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.up = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class SwigluMLP(nn.Module):
    """One half gates the other: down(silu(gate(x)) * up(x)) (Shazeer 2020, eq. 6)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.up = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(F.silu(self.gate(x)) * self.up(x))


def make_mlp(config: ModelConfig) -> nn.Module:
    """The feed-forward part that `config` asks for."""
    return GeluMLP(config) if config.mlp == "gelu" else SwigluMLP(config)
