"""Where a token stands: added to the embedding, or turned into queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from folio.model.config import ModelConfig


def sinusoidal(positions: Tensor, width: int) -> Tensor:
    """Fixed sines and cosines of falling frequency (Vaswani et al. 2017, section 3.5).

    positions (..., T) -> (..., T, width); even columns sine, odd columns cosine.

    >>> sinusoidal(torch.tensor([0]), 4)
    tensor([[0., 1., 0., 1.]])
    """
    pair = torch.arange(0, width, 2, device=positions.device)
    angle = positions[..., None] * 10_000.0 ** (-pair / width)  # (..., T, width / 2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def rotary_angles(positions: Tensor, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle by which each pair of a head is turned.

    positions (B, T) -> two tensors (B, 1, T, width / 2), fp32. Pair i turns by
    position / theta^(2 i / width) (Su et al. 2021, eq. 15).
    """
    pair = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angle = positions[:, None, :, None].float() * (1 / theta ** (pair / width))
    return angle.cos(), angle.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + width / 2]) by its angle; lengths stay the same.

    x (B, H, T, K) -> (B, H, T, K). The halves are paired, not neighbors: the layout
    of Llama's published weights in transformers.

    >>> quarter = torch.tensor([[[[0.0]]]]), torch.tensor([[[[1.0]]]])
    >>> rotate(torch.tensor([[[[1.0, 0.0]]]]), quarter)
    tensor([[[[0., 1.]]]])
    """
    cos, sin = (part.to(x.dtype) for part in angles)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class LearnedPositions(nn.Module):
    """One learned vector per position, as in GPT-2; none past the end of its table."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.table = nn.Embedding(config.max_seq_len, config.d_model)

    def forward(self, positions: Tensor) -> Tensor:  # (B, T) -> (B, T, D)
        return self.table(positions.clamp(min=0))  # -1, padding: nobody looks at it


class SinusoidalPositions(nn.Module):
    """`sinusoidal` as a part without parameters, scaled to the embeddings' size.

    Sines of size one would drown embeddings that begin at 0.02; the original scaled
    its embeddings up by sqrt(D) instead.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.width, self.size = config.d_model, config.first_embedding_std

    def forward(self, positions: Tensor) -> Tensor:  # (B, T) -> (B, T, D)
        return self.size * sinusoidal(positions, self.width)


def make_positions(config: ModelConfig) -> nn.Module | None:
    """The part that is added to the embeddings, or None (rotary, none)."""
    if config.positions == "learned":
        return LearnedPositions(config)
    if config.positions == "sinusoidal":
        return SinusoidalPositions(config)
    return None
