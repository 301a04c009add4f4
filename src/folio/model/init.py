"""How the weights begin."""

from __future__ import annotations

import math

from torch import nn

from folio.model.config import ModelConfig


def init_weights(model: nn.Module, config: ModelConfig) -> None:
    """Fill the parameters of a decoder, drawing from torch's global generator.

    gpt2: normal with deviation 0.02; what writes into the residual stream is divided
    by sqrt(2 L), so that its size doesn't grow with depth (Radford et al. 2019).
    fan_in: deviation 1 / sqrt(inputs), embeddings and head as before, and zero for
    what writes into the residual stream, so that each block begins as the identity.
    """
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        std = 0.02
        if name.endswith((".attention.out", ".mlp.down")):
            scale = 1 / math.sqrt(2 * config.n_layers)
            std = 0.0 if config.init == "fan_in" else 0.02 * scale
        elif config.init == "fan_in" and name.startswith("blocks."):
            std = 1 / math.sqrt(module.in_features)
        nn.init.normal_(module.weight, std=std)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
