"""Where a token stands: added to the embedding, or turned into queries and keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from folio.model.config import ModelConfig, RopeScaling

Angles = tuple[Tensor, Tensor]  # cosines, and sines with the first half negative


def sinusoidal(positions: Tensor, width: int) -> Tensor:
    """Fixed sines and cosines of falling frequency (Vaswani et al. 2017, section 3.5).

    positions (..., T) -> (..., T, width); even columns sine, odd columns cosine.

    >>> sinusoidal(torch.tensor([0]), 4)
    tensor([[0., 1., 0., 1.]])
    """
    pair = torch.arange(0, width, 2, device=positions.device)
    angle = positions[..., None] * 10_000.0 ** (-pair / width)  # (..., T, width / 2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """By how much each pair of a head turns per position: (rotary_width / 2,), fp32.

    Pair i turns by theta^(-2 i / width) (Su et al. 2021, eq. 15). To reach further than
    the trained length by `factor`, `rope_scaling` slows the pairs down:

    linear: all by factor, as if positions lay closer (Chen et al. 2023).
    ntk: by raising theta so that the slowest pair slows by factor and the fastest not
    at all.
    yarn: pairs with at most `low` turns over the trained length by factor, those with
    at least `high` not at all, in between by a ramp over the pair's number (Peng et al.
    2023, section 3.2).
    llama3: the same idea with a ramp over the number of turns (Llama 3.1's release).
    """
    width, scaling = config.rotary_width, config.rope_scaling
    theta = config.rope_theta
    if scaling is not None and scaling.kind == "ntk":
        theta = theta * scaling.factor ** (width / max(width - 2, 1))
    pair = torch.arange(0, width, 2, dtype=torch.float32)
    frequencies = 1 / theta ** (pair / width)
    if scaling is None or scaling.kind == "ntk":
        return frequencies
    kept = _kept_share(frequencies, theta, scaling)  # 1: as it was, 0: slowed whole
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def _kept_share(frequencies: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    """How much of each pair's frequency stays, from 0 to 1."""
    if scaling.kind == "linear":
        return torch.zeros_like(frequencies)
    if scaling.kind == "llama3":
        turns = scaling.original_len * frequencies / (2 * math.pi)
        return ((turns - scaling.low) / (scaling.high_turns - scaling.low)).clamp(0, 1)

    def pair_with(turns: float) -> float:
        """The (fractional) number of the pair that turns so often."""
        wavelength = scaling.original_len / (2 * math.pi * turns)
        return len(frequencies) * math.log(wavelength) / math.log(theta)

    first = max(math.floor(pair_with(scaling.high_turns)), 0)
    # The released code ends the ramp at the last *number* of a head, not its last pair
    last = min(math.ceil(pair_with(scaling.low)), 2 * len(frequencies) - 1)
    pair = torch.arange(len(frequencies), dtype=torch.float32)
    return 1 - ((pair - first) / max(last - first, 0.001)).clamp(0, 1)


def rotary_magnitude(config: ModelConfig) -> float:
    """What cosine and sine are multiplied by: 1, but for YaRN (its eq. 22).

    The square of it acts on the scores, as a temperature would.
    """
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    if scaling.magnitude is not None:
        return scaling.magnitude
    return 0.1 * math.log(scaling.factor) + 1


class Rotary(nn.Module):
    """The angle of each position for each pair of a head: a part without parameters."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.magnitude = config, rotary_magnitude(config)
        frequencies = rotary_frequencies(config)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def _apply(self, fn, recurse: bool = True) -> Rotary:
        """Move with the model, but stay fp32: bf16 would round the angles away."""
        super()._apply(fn, recurse)
        if not self.frequencies.is_meta:
            exact = rotary_frequencies(self.config)
            self.frequencies = exact.to(self.frequencies.device)
        return self

    def forward(self, positions: Tensor) -> Angles:
        """positions (B, T) -> what `rotate` takes, both (B, 1, T, width), fp32."""
        angle = positions[:, None, :, None].float() * self.frequencies
        cos, sin = angle.cos() * self.magnitude, angle.sin() * self.magnitude
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turn each pair (x[i], x[i + width / 2]) by its angle; lengths stay the same.

    x (B, H, T, K) -> (B, H, T, K). A pair (a, b) becomes (a cos - b sin, b cos + a
    sin). The halves are paired, not neighbors: the layout of Llama's published weights
    in transformers. What is wider than the angles is left as it is (partial rotation,
    Wang & Komatsuzaki 2021).

    >>> quarter = torch.zeros(1, 1, 1, 2), torch.tensor([[[[-1.0, 1.0]]]])
    >>> rotate(torch.tensor([[[[1.0, 0.0, 5.0]]]]), quarter)
    tensor([[[[0., 1., 5.]]]])
    """
    cos, sin = (part.to(x.dtype) for part in angles)
    width = cos.shape[-1]
    if x.shape[-1] > width:
        return torch.cat([rotate(x[..., :width], angles), x[..., width:]], -1)
    a, b = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat([b, a], -1), sin)


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
