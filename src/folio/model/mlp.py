"""The feed-forward part: each token thinks for itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.config import ModelConfig


class GeluMLP(nn.Module):
    """Widen, bend, narrow: down(gelu(up(x))) (Hendrycks & Gimpel 2016).

    GPT-2 was trained with the tanh approximation of GELU; the exact form costs half
    of it on a CPU.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.approximate = "tanh" if config.mlp == "gelu_tanh" else "none"
        self.up = nn.Linear(config.d_model, config.ff_width, bias=config.bias)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(F.gelu(self.up(x), approximate=self.approximate))


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
    return SwigluMLP(config) if config.mlp == "swiglu" else GeluMLP(config)
