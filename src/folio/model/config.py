"""The shape of a decoder: every choice in one frozen, validated value."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Literal

from folio.config import UserError


@dataclass(frozen=True)
class ModelConfig:
    """What a `Decoder` is made of. Impossible combinations fail here, by name.

    vocab_size of 0 means "the tokenizer decides"; stages fill it in before building.
    """

    vocab_size: int = 0  # 0: as many as the tokenizer has
    max_seq_len: int = 256  # tokens that the model looks back at most
    d_model: int = 128  # D, the width of the residual stream
    n_layers: int = 4
    n_heads: int = 4  # H; each is d_model / n_heads wide
    n_kv_heads: int | None = None  # G; none: as many as n_heads; 1: multi-query
    d_ff: int | None = None  # F; none: 4 d_model, or two thirds of it for SwiGLU
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "rotary"
    rope_theta: float = 10_000.0  # rotary wavelengths reach about 2 pi times this
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = 1e-5
    mlp: Literal["swiglu", "gelu", "gelu_tanh"] = "swiglu"  # tanh: as GPT-2's
    bias: bool = False  # in linear layers and LayerNorm
    tie_embeddings: bool = True  # the head is the embedding
    dropout: float = 0.0
    init: Literal["gpt2", "fan_in"] = "gpt2"  # see folio.model.init
    embedding_std: float | None = None  # at the start; none: as init says

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_sizes()
        self._check_heads()

    def _check_choices(self) -> None:
        """A misspelled part must not silently become another one, or none."""
        for name, kind in typing.get_type_hints(type(self)).items():
            choices, value = typing.get_args(kind), getattr(self, name)
            if typing.get_origin(kind) is Literal and value not in choices:
                known = ", ".join(choices)
                raise UserError(f"{name} = {value!r}: choose one of {known}")

    def _check_sizes(self) -> None:
        for name in ("max_seq_len", "d_model", "n_layers", "n_heads", "d_ff"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} = {value}: must be at least 1")
        if self.vocab_size < 0:
            raise UserError(f"vocab_size = {self.vocab_size}: must be at least 1")
        for name in ("rope_theta", "norm_eps", "embedding_std"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} = {value}: must be above 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout = {self.dropout}: must lie in [0, 1)")

    def _check_heads(self) -> None:
        if self.d_model % self.n_heads:
            raise UserError(
                f"d_model = {self.d_model} is not divisible by n_heads = "
                f"{self.n_heads}; choose a multiple, such as d_model = "
                f"{self.n_heads * max(1, round(self.d_model / self.n_heads))}"
            )
        if self.n_kv_heads is not None and (
            self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads
        ):
            raise UserError(
                f"n_kv_heads = {self.n_kv_heads} does not divide n_heads = "
                f"{self.n_heads}; choose one of {_divisors(self.n_heads)}"
            )
        if self.positions == "rotary" and self.head_width % 2:
            raise UserError(
                f"positions = 'rotary' turns pairs of numbers, but d_model / n_heads = "
                f"{self.head_width} is odd; change d_model or n_heads"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(
                f"positions = 'sinusoidal' needs an even d_model, not {self.d_model}; "
                f"choose d_model = {self.d_model + 1}"
            )

    @property
    def head_width(self) -> int:
        """K: the width of one head."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """G: key/value heads, as many as query heads unless told otherwise."""
        return self.n_kv_heads or self.n_heads

    @property
    def ff_width(self) -> int:
        """F: the feed-forward width.

        SwiGLU has three matrices where GELU has two, so two thirds of 4 D keep the
        parameters equal (Shazeer 2020, section 3); rounded up to a multiple of 8.
        """
        if self.d_ff is not None:
            return self.d_ff
        if self.mlp != "swiglu":
            return 4 * self.d_model
        return (8 * self.d_model // 3 + 7) // 8 * 8

    @property
    def first_embedding_std(self) -> float:
        """The deviation with which embeddings begin (see `init_weights`)."""
        if self.embedding_std is not None:
            return self.embedding_std
        return 1 / math.sqrt(self.d_model) if self.init == "fan_in" else 0.02


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def gpt2_like(**changes) -> ModelConfig:
    """GPT-2's parts (Radford et al. 2019) at any size."""
    parts = {
        "positions": "learned",
        "norm": "layernorm",
        "mlp": "gelu_tanh",
        "bias": True,
        "tie_embeddings": True,
    }
    return ModelConfig(**(parts | changes))


def llama_like(**changes) -> ModelConfig:
    """Llama's parts (Touvron et al. 2023) at any size."""
    parts = {
        "positions": "rotary",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "bias": False,
        "tie_embeddings": False,
    }
    return ModelConfig(**(parts | changes))
