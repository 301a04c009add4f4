"""The feed-forward part: each token thinks for itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.config import ModelConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's; twice as fast on CPU
    "relu2": lambda x: F.relu(x).square(),  # So et al. 2021 (Primer), section 3.1
    "swiglu": F.silu,
    "geglu": partial(F.gelu, approximate="tanh"),  # Gemma's
}


class PlainMLP(nn.Module):
    """Widen, bend, narrow: down(gelu(up(x))) (Hendrycks & Gimpel 2016)."""

    def __init__(self, config: ModelConfig, width: int | None = None):
        super().__init__()
        width = width or config.ff_width
        self.activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.d_model, width, bias=config.bias)
        self.down = nn.Linear(width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(self.activation(self.up(x)))


class GatedMLP(nn.Module):
    """One half gates the other: down(silu(gate(x)) * up(x)) (Shazeer 2020, eq. 6)."""

    def __init__(self, config: ModelConfig, width: int | None = None):
        super().__init__()
        width = width or config.ff_width
        self.activation = ACTIVATIONS[config.mlp]
        self.gate = nn.Linear(config.d_model, width, bias=config.bias)
        self.up = nn.Linear(config.d_model, width, bias=config.bias)
        self.down = nn.Linear(width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(self.activation(self.gate(x)) * self.up(x))


def make_mlp(config: ModelConfig, width: int | None = None) -> nn.Module:
    """The feed-forward part that `config` asks for; `width` in place of F."""
    return (GatedMLP if config.gated else PlainMLP)(config, width)
