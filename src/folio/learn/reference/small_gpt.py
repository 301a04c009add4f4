"""A small GPT: embed, look back, think, repeat, score what may come next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from folio.learn.reference import causal_self_attention
from folio.model import norm


class Norm(nn.Module):
    """LayerNorm with what it learns, by the package's readable function."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return norm.layer_norm(x, self.gain, self.bias)


class Block(nn.Module):
    """Two residual steps: attention, then a feed-forward part four times as wide."""

    def __init__(self, d_model: int, n_heads: int, max_seq_len: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = Norm(d_model), Norm(d_model)
        attention = causal_self_attention.CausalSelfAttention
        self.attention = attention(d_model, n_heads, max_seq_len)
        self.mlp = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(),
            nn.Linear(4 * d_model, d_model),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class SmallGPT(nn.Module):
    """A decoder-only transformer with learned positions and a head tied to `tokens`.

    tokens (B, T) -> logits (B, T, V), for T up to `max_seq_len`.
    """

    def __init__(
        self,
        vocab_size: int,
        max_seq_len: int,
        d_model: int,
        n_layers: int,
        n_heads: int,
    ):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(max_seq_len, d_model)
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, max_seq_len) for _ in range(n_layers)
        )
        self.norm = Norm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores for the next token at each place: (B, T) -> (B, T, V)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
