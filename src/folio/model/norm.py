"""Normalization: bring each vector to unit scale before a layer reads it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.config import ModelConfig


def layer_norm(
    x: Tensor, gain: Tensor, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Subtract the mean, divide by the standard deviation (Ba et al. 2016, eq. 3).

    >>> layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), eps=0.0)
    tensor([-1.,  1.])
    """
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + eps) * gain
    return y if bias is None else y + bias


def rms_norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
    """Divide by the root mean square; no mean, no bias (Zhang & Sennrich 2019, eq. 4).

    >>> rms_norm(torch.tensor([1.0, 7.0]), torch.ones(2), eps=0.0)
    tensor([0.2000, 1.4000])
    """
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


class LayerNorm(nn.Module):
    """`layer_norm` with learned gain and, if asked, bias; the fused kernel."""

    def __init__(self, width: int, eps: float, bias: bool):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.eps)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain; the fused kernel."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        return F.rms_norm(x, self.gain.shape, self.gain, self.eps)


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm that `config` asks for."""
    if config.norm == "layernorm":
        return LayerNorm(config.d_model, config.norm_eps, config.bias)
    return RMSNorm(config.d_model, config.norm_eps)
