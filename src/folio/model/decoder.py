"""The decoder: embed, look back, think, repeat, predict the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from folio.config import UserError
from folio.model.attention import Angles, Attention, Cache
from folio.model.config import ModelConfig
from folio.model.heads import token_logprobs
from folio.model.init import init_weights
from folio.model.mlp import make_mlp
from folio.model.norm import make_norm
from folio.model.positions import make_positions, rotary_angles


class Output(NamedTuple):
    """What one call of the model gives: logits, or log-probs of given targets."""

    logits: Tensor | None = None  # (B, T, V)
    logprobs: Tensor | None = None  # (B, T)


class Block(nn.Module):
    """Two residual steps: tokens talk to one another, then each thinks for itself."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = make_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor | None,
        angles: Angles | None,
        cache: Cache | None = None,
    ) -> Tensor:  # (B, T, D) -> (B, T, D)
        h = self.attention(self.attention_norm(x), positions, angles, cache)
        x = x + self.dropout(h)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Decoder(nn.Module):
    """A decoder-only transformer; `ModelConfig` decides which family it resembles."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.vocab_size < 1:
            raise UserError("vocab_size = 0: set it to the tokenizer's vocab_size")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = make_positions(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        init_weights(self, config)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        targets: Tensor | None = None,
    ) -> Output:
        """tokens (B, T) -> logits (B, T, V), or log-probs (B, T) if targets (B, T).

        positions (B, T) default to 0, 1, ...; a cache, one per layer, needs them.
        Position -1 marks padding, whose output means nothing and which nobody sees.
        """
        if cache is not None and positions is None:
            raise ValueError("a cache needs positions: which tokens are new?")
        x, angles = self.embed(tokens, positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, positions, angles, cache[layer] if cache else None)
        logits = self.head(self.norm(x))
        if targets is None:
            return Output(logits=logits)
        return Output(logprobs=token_logprobs(logits, targets))

    def embed(
        self, tokens: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Angles | None]:
        """Token vectors (B, T, D) with what is added for their places, and angles."""
        if positions is None:
            self.check_length(tokens.shape[1])
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions(positions).to(x.dtype)
        angles = None
        if self.config.positions == "rotary":
            config = self.config
            angles = rotary_angles(positions, config.head_width, config.rope_theta)
        return self.dropout(x), angles

    def check_length(self, length: int) -> None:
        """A table of positions ends somewhere; say so instead of an IndexError."""
        limit = self.config.max_seq_len
        if self.config.positions == "learned" and length > limit:
            raise UserError(
                f"{length} tokens, but learned positions end at max_seq_len = {limit}; "
                "shorten the text, or train with rotary positions"
            )

    @torch.no_grad()
    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Every pattern of one batch: tokens (B, T) -> (L, B, H, T, T)."""
        self.check_length(tokens.shape[1])
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(
            tokens
        )
        x, angles = self.embed(tokens, positions)
        maps = []
        for block in self.blocks:
            normed = block.attention_norm(x)
            maps.append(block.attention.weights(normed, positions, angles))
            x = block(x, positions, angles)
        return torch.stack(maps)
