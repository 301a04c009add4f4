"""How the weights begin."""

from __future__ import annotations

import math

from torch import nn

from folio.model.config import ModelConfig
from folio.model.moe import Experts


def init_weights(model: nn.Module, config: ModelConfig) -> None:
    """Fill the parameters of a decoder, drawing from torch's global generator.

    gpt2: normal with deviation 0.02; what writes into the residual stream is divided
    by sqrt(2 L), so that its size doesn't grow with depth (Radford et al. 2019).
    fan_in: deviation 1 / sqrt(inputs) inside the blocks, and zero for what writes into
    the residual stream, so that each block begins as the identity. Embeddings begin
    at 1 / sqrt(D): words that are used alike, as names are, get gradients alike, and
    from a small start it takes longer to tell them apart, and so to copy them. (Over
    3 seeds `bench/tales.py` finds 0.50 of names copied, and 0.34 from a start of 0.02;
    single seeds overlap.)
    """
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            _init_experts(module, config)
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        nn.init.normal_(module.weight, std=_deviation(name, module, config))
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)


def _deviation(name: str, module: nn.Module, config: ModelConfig) -> float:
    if name == "embedding":
        return config.first_embedding_std
    if name.endswith((".attention.out", ".mlp.down", ".shared_expert.down")):
        return _residual_deviation(config)
    if name.startswith("blocks.") and config.init == "fan_in":
        return 1 / math.sqrt(module.in_features)
    return 0.02


def _residual_deviation(config: ModelConfig) -> float:
    """Of what writes into the residual stream."""
    return 0.0 if config.init == "fan_in" else 0.02 / math.sqrt(2 * config.n_layers)


def _init_experts(experts: Experts, config: ModelConfig) -> None:
    """Each expert as if it were the layer's only feed-forward part."""
    inner = 1 / math.sqrt(config.d_model) if config.init == "fan_in" else 0.02
    for weight in (experts.gate, experts.up):
        if weight is not None:
            nn.init.normal_(weight, std=inner)
    nn.init.normal_(experts.down, std=_residual_deviation(config))
