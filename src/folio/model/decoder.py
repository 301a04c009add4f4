"""The decoder: embed, look back, think, repeat, predict the next token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from folio.config import UserError
from folio.model.attend import soft_cap
from folio.model.attention import Attention, Cache, Shared
from folio.model.config import ModelConfig
from folio.model.heads import (
    chunked_logprobs,
    logprobs_and_entropy,
    token_logprobs,
)
from folio.model.init import init_weights
from folio.model.latent import LatentAttention
from folio.model.mask import Masks
from folio.model.mlp import make_mlp
from folio.model.moe import MixtureOfExperts
from folio.model.norm import make_norm
from folio.model.positions import Rotary, make_positions


class Output(NamedTuple):
    """What one call of a model gives: logits, or log-probs of given targets."""

    logits: Tensor | None = None  # (B, T, V)
    logprobs: Tensor | None = None  # (B, T)
    router_loss: Tensor | None = None  # (B,) what routers ask for, in training
    entropy: Tensor | None = None  # (B, T) in nats, if asked for; without gradient
    values: Tensor | None = None  # (B, T) of models with a scalar head


class Block(nn.Module):
    """Two residual steps: tokens talk to one another, then each thinks for itself."""

    def __init__(self, config: ModelConfig, layer: int = 0):
        super().__init__()
        self.attention_norm = make_norm(config)
        make_attention = Attention if config.latent is None else LatentAttention
        self.attention = make_attention(config, config.layer_windows[layer])
        self.mlp_norm = make_norm(config)
        kind = config.layer_mlps[layer]
        self.mlp = make_mlp(config) if kind in "db" else None
        self.moe = MixtureOfExperts(config) if kind in "eb" else None
        self.attention_post_norm = make_norm(config) if config.post_norm else None
        self.mlp_post_norm = make_norm(config) if config.post_norm else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        h = self.attention(self.attention_norm(x), shared, cache)
        if self.attention_post_norm is not None:
            h = self.attention_post_norm(h)
        x = x + self.dropout(h)
        h = self.think(self.mlp_norm(x), shared)
        if self.mlp_post_norm is not None:
            h = self.mlp_post_norm(h)
        return x + self.dropout(h)

    def think(self, x: Tensor, shared: Shared) -> Tensor:
        """The dense part, the experts, or the sum of both."""
        if self.moe is None:
            return self.mlp(x)
        y = self.moe(x, shared)
        return y if self.mlp is None else y + self.mlp(x)


class Decoder(nn.Module):
    """A decoder-only transformer; `ModelConfig` decides which family it resembles.

    With `checkpoint_layers` set, training keeps only what enters each layer and
    computes the rest again for the gradient: less memory for a third more work (Chen
    et al. 2016). With `both_ways` set, tokens look ahead too, as in an encoder: it
    can't write then, only read.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.vocab_size < 1:
            raise UserError("vocab_size = 0: set it to the tokenizer's vocab_size")
        self.config = config
        self.checkpoint_layers = self.both_ways = False
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = make_positions(config)
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.n_layers))
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
        documents: Tensor | None = None,
        **asked: Any,
    ) -> Output:
        """tokens (B, T) -> logits (B, T, V), or log-probs (B, T) if targets (B, T).

        What else may be asked of targets is described at `answer`. positions (B, T)
        default to 0, 1, ...; a cache, one per layer, needs them.
        Position -1 marks padding, whose output means nothing and which nobody sees.
        documents (B, T) number the documents of a packed row; none sees another. With
        (B, T, N) a token is of the first and sees all N, as an answer its prompt.
        """
        hidden, shared = self.hidden(tokens, positions, cache, documents)
        if targets is None:
            return Output(self.read(hidden), router_loss=shared.router_loss)
        output = self.answer(hidden, targets, **asked)
        return output._replace(router_loss=shared.router_loss)

    def answer(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        where: Tensor | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
    ) -> Output:
        """Log-probs of targets (B, T), and the entropy at each place if asked for.

        where bool (B, T): only there; elsewhere both are 0, and no time is spent.
        temperature: of the distribution that the targets were sampled from.
        """

        def read(hidden: Tensor) -> Tensor:
            logits = self.read(hidden)
            return logits if temperature == 1.0 else logits / temperature

        if where is not None:
            hidden, targets = hidden[where], targets[where]
        measure = logprobs_and_entropy if entropy else token_logprobs
        found = chunked_logprobs(
            read, hidden, targets, self.config.vocab_size, measure=measure
        )
        if where is not None:
            everywhere = found.new_zeros(*where.shape, *found.shape[1:])
            found = everywhere.index_put((where,), found)
        if entropy:
            return Output(logprobs=found[..., 0], entropy=found[..., 1])
        return Output(logprobs=found)

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, Shared]:
        """The last hidden states (B, T, D), normed, which `read` turns into logits."""
        if cache is not None and positions is None:
            raise ValueError("a cache needs positions: which tokens are new?")
        if cache is not None and self.both_ways:
            raise ValueError("an encoder reads whole texts, so it has no cache")
        if cache is not None and documents is not None:
            raise ValueError("a cache holds one text a row, so it can't have documents")
        x, shared = self.embed(tokens, positions, documents)
        for layer, block in enumerate(self.blocks):
            if self.checkpoint_layers and self.training and cache is None:
                x = checkpoint(block, x, shared, use_reentrant=False)
            else:
                x = block(x, shared, cache[layer] if cache is not None else None)
        return self.norm(x), shared

    def read(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits (..., V)."""
        return soft_cap(self.head(hidden), self.config.logit_softcap)

    def embed(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, Shared]:
        """Token vectors (B, T, D) with what is added for their places."""
        plain = positions is None
        if positions is None:
            self.check_length(tokens.shape[1])
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.embedding(tokens)
        if self.config.scale_embeddings:
            x = x * torch.tensor(math.sqrt(self.config.d_model), dtype=x.dtype)
        if self.positions is not None:
            x = x + self.positions(positions).to(x.dtype)
        angles = None
        if self.rotary is not None:  # in the dtype that layers want, once for all
            angles = tuple(part.to(x.dtype) for part in self.rotary(positions))
        masks = Masks(positions, plain, documents, self.both_ways)
        return self.dropout(x), Shared(positions, masks, self.rotary, angles)

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
        x, shared = self.embed(tokens)
        maps = []
        for block in self.blocks:
            normed = block.attention_norm(x)
            maps.append(block.attention.weights(normed, shared))
            x = block(x, shared)
        return torch.stack(maps)
