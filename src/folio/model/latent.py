"""Multi-head latent attention: every head its own keys, and next to nothing to cache.

(DeepSeek-V2, 2024, section 2.1.) Keys and values of all heads are made of one small
vector per token, the latent. What is rotary can't be made of it, or the trick below
would fail, so each key has a part beside it that all heads share and that is turned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from folio.model.attend import Path, attend, attention_weights
from folio.model.attention import Cache, Shared
from folio.model.config import ModelConfig
from folio.model.mask import Masks
from folio.model.norm import RMSNorm
from folio.model.positions import rotate


class LatentAttention(nn.Module):
    """Attention whose cache keeps rank + rope_width numbers per token, not 2 H K.

    Without a cache each head's keys and values are made and used. With one they never
    are: q · (U c) = (U^T q) · c, so a query is taken down to the latent instead, where
    all heads meet one key; and the mix of latents is taken up once, by the value's
    matrix ("absorbed"). Both are the same numbers in another order.
    """

    def __init__(self, config: ModelConfig, window: int | None = None):
        super().__init__()
        latent, heads, width = config.latent, config.n_heads, config.head_width
        self.n_heads, self.head_width = heads, width
        self.rank, self.rope_width = latent.rank, latent.rope_width
        self.window, self.dropout = window, config.dropout
        self.scale = config.attention_scale or 1 / math.sqrt(width + latent.rope_width)
        self.softcap = config.attention_softcap
        self.path: Path | None = None  # of `attend`; none: the fastest
        asked, eps = config.d_model, config.norm_eps
        self.query_latent = self.query_norm = None
        if latent.query_rank is not None:
            asked = latent.query_rank
            self.query_latent = nn.Linear(config.d_model, asked, bias=config.bias)
            self.query_norm = RMSNorm(asked, eps)
        self.query = nn.Linear(asked, heads * (width + self.rope_width), bias=False)
        self.latent = nn.Linear(config.d_model, self.rank, bias=config.bias)
        self.latent_norm = RMSNorm(self.rank, eps)
        self.rotary_key = nn.Linear(config.d_model, self.rope_width, bias=config.bias)
        self.key = nn.Linear(self.rank, heads * width, bias=False)
        self.value = nn.Linear(self.rank, heads * width, bias=False)
        self.out = nn.Linear(heads * width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q, turned = self.queries(x, shared)
        kept = self.kept(x, shared)
        key_positions = shared.positions
        if cache is None:
            q, k, v = torch.cat([q, turned], -1), *self.keys_and_values(kept)
        else:
            kept, _, key_positions = cache.update(kept, kept[..., :0], shared.positions)
            q = torch.cat([self.absorbed(q), turned], -1)  # (B, H, T, rank + rope)
            k, v = kept, kept[..., : self.rank]
        y = attend(
            q,
            k,
            v,
            shared.masks.of(key_positions, self.window),
            scale=self.scale,
            softcap=self.softcap,
            dropout=self.dropout if self.training else 0.0,
            path=self.path,
        )
        if cache is not None:
            y = y @ self.by_head(self.value).transpose(-2, -1)  # (B, H, T, K)
        return self.out(y.transpose(1, 2).flatten(2))

    def queries(self, x: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
        """Two parts of each query: (B, H, T, K), and (B, H, T, rope_width), turned."""
        if self.query_latent is not None:
            x = self.query_norm(self.query_latent(x))
        q = self.query(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        plain, rotary = q.split([self.head_width, self.rope_width], -1)
        return plain, rotate(rotary, shared.angles)

    def kept(self, x: Tensor, shared: Shared) -> Tensor:
        """All that a cache needs: the latent and the turned key, (B, 1, T, ...)."""
        rotary = rotate(self.rotary_key(x)[:, None], shared.angles)
        return torch.cat([self.latent_norm(self.latent(x))[:, None], rotary], -1)

    def keys_and_values(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Every head's own: keys (B, H, S, K + rope_width), values (B, H, S, K)."""
        latent, rotary = kept.split([self.rank, self.rope_width], -1)
        k, v = (
            part(latent[:, 0]).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.key, self.value)
        )
        return torch.cat([k, rotary.expand(-1, self.n_heads, -1, -1)], -1), v

    def absorbed(self, q: Tensor) -> Tensor:
        """U^T q of each head, to be met with latents: (B, H, T, K) -> (..., rank)."""
        return q @ self.by_head(self.key)

    def by_head(self, linear: nn.Linear) -> Tensor:
        """The matrix of each head: (H, K, rank)."""
        matrix = linear.weight
        if type(linear) is not nn.Linear:  # it has an adapter, say: ask what it does
            matrix = linear(torch.eye(self.rank).to(self.latent_norm.gain)).T
        return matrix.reshape(self.n_heads, self.head_width, self.rank)

    @torch.no_grad()
    def weights(self, x: Tensor, shared: Shared) -> Tensor:
        """The attention pattern itself, for figures: x (B, T, D) -> (B, H, T, T)."""
        q = torch.cat(self.queries(x, shared), -1)
        k, _ = self.keys_and_values(self.kept(x, shared))
        both_ways = shared.masks.both_ways
        masks = Masks(shared.positions, plain=False, both_ways=both_ways)
        mask = masks.of(shared.positions, self.window)
        return attention_weights(q, k, mask, scale=self.scale, softcap=self.softcap)
