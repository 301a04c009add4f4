"""The shape of a decoder: every choice in one frozen, validated value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from folio.config import UserError
from folio.model.options import (
    Experts,
    Latent,
    RopeScaling,
    check_above_zero,
    check_at_least,
    check_choices,
)


@dataclass(frozen=True)
class ModelConfig:
    """What a `Decoder` is made of. Impossible combinations fail here, by name.

    vocab_size of 0 means "the tokenizer decides"; stages fill it in before building.
    Patterns are letters repeated over the layers: "wwwf" makes every fourth one full.
    """

    vocab_size: int = 0  # 0: as many as the tokenizer has
    max_seq_len: int = 256  # tokens that the model looks back at most
    d_model: int = 128  # D, the width of the residual stream
    n_layers: int = 4
    n_heads: int = 4  # H
    n_kv_heads: int | None = None  # G; none: as many as n_heads; 1: multi-query
    head_dim: int | None = None  # K, the width of a head; none: d_model / n_heads
    d_ff: int | None = None  # F; none: 4 d_model, or two thirds of it for a gated mlp
    latent: Latent | None = None  # multi-head latent attention, as in DeepSeek-V2
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "rotary"
    rope_theta: float = 10_000.0  # rotary wavelengths reach about 2 pi times this
    rope_fraction: float = 1.0  # of each head that is turned
    rope_scaling: RopeScaling | None = None  # to reach past the trained length
    window: int | None = None  # tokens that a windowed layer sees, its own included
    sinks: int = 0  # first tokens that windowed layers see besides
    attention_pattern: str | None = None  # w windowed, f full; none: all w if window
    qk_norm: bool = False  # RMSNorm on each head's queries and keys
    qkv_bias: bool | None = None  # none: as bias
    attention_scale: float | None = None  # of the scores; none: 1 / sqrt(K)
    attention_softcap: float | None = None  # scores are bent to stay within it
    logit_softcap: float | None = None  # the same for the logits
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = 1e-5
    post_norm: bool = False  # a norm after attention and mlp too, as in Gemma 2
    mlp: Literal["swiglu", "geglu", "gelu", "gelu_tanh", "relu2"] = "swiglu"
    mlp_pattern: str | None = None  # d dense, e experts, b both; none: e if experts
    experts: Experts | None = None
    bias: bool = False  # in linear layers and LayerNorm
    tie_embeddings: bool = True  # the head is the embedding
    scale_embeddings: bool = False  # by sqrt(D), as in Gemma
    dropout: float = 0.0
    init: Literal["gpt2", "fan_in"] = "gpt2"  # see folio.model.init
    embedding_std: float | None = None  # at the start; none: as init says

    def __post_init__(self) -> None:
        check_choices(self)
        self._check_sizes()
        self._check_heads()
        self._check_positions()
        self._check_window()
        self._check_latent()
        self._check_experts()

    def _check_sizes(self) -> None:
        names = ("max_seq_len", "d_model", "n_layers", "n_heads", "head_dim", "d_ff")
        check_at_least(self, 1, *names, "window")
        if self.vocab_size < 0:
            raise UserError(f"vocab_size = {self.vocab_size}: must be at least 1")
        check_above_zero(
            self,
            "rope_theta",
            "norm_eps",
            "embedding_std",
            "attention_scale",
            "attention_softcap",
            "logit_softcap",
        )
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout = {self.dropout}: must lie in [0, 1)")

    def _check_heads(self) -> None:
        if self.head_dim is None and self.d_model % self.n_heads:
            raise UserError(
                f"d_model = {self.d_model} is not divisible by n_heads = "
                f"{self.n_heads}; choose a multiple, such as d_model = "
                f"{self.n_heads * max(1, round(self.d_model / self.n_heads))}, or set "
                "head_dim"
            )
        if self.n_kv_heads is not None and (
            self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads
        ):
            raise UserError(
                f"n_kv_heads = {self.n_kv_heads} does not divide n_heads = "
                f"{self.n_heads}; choose one of {_divisors(self.n_heads)}"
            )

    def _check_positions(self) -> None:
        if not 0 < self.rope_fraction <= 1:
            raise UserError(
                f"rope_fraction = {self.rope_fraction}: must lie in (0, 1]; for no "
                "rotation at all, positions = 'none'"
            )
        if self.positions == "rotary" and self.rotary_width % 2:
            raise UserError(
                f"positions = 'rotary' turns pairs of numbers, but {self.rotary_width} "
                "of each head, an odd number, are to be turned; change d_model, "
                "n_heads, head_dim or rope_fraction"
            )
        if self.positions == "rotary" and self.rotary_width == 0:
            raise UserError(
                f"rope_fraction = {self.rope_fraction} of a head {self.head_width} "
                "wide leaves no pair to turn; raise it"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(
                f"positions = 'sinusoidal' needs an even d_model, not {self.d_model}; "
                f"choose d_model = {self.d_model + 1}"
            )
        if self.rope_scaling is not None and self.positions != "rotary":
            raise UserError(
                f"rope_scaling scales rotary positions, but positions = "
                f"{self.positions!r}; leave it out, or set positions = 'rotary'"
            )
        if self.rope_scaling is not None and self.rope_theta <= 1:
            raise UserError(
                f"rope_theta = {self.rope_theta}: must be above 1 to be scaled"
            )

    def _check_window(self) -> None:
        _check_pattern(self, "attention_pattern", "wf")
        windowed = "w" in (self.attention_pattern or "")
        if self.window is None and (windowed or self.sinks):
            name = "attention_pattern" if windowed else "sinks"
            raise UserError(
                f"{name} = {getattr(self, name)!r} is about windowed layers: set window"
            )
        if self.window is not None and not self.windowed_layers:
            raise UserError(
                f"window = {self.window}, but attention_pattern = "
                f"{self.attention_pattern!r} has no windowed layer 'w' among "
                f"n_layers = {self.n_layers}"
            )
        if self.sinks < 0:
            raise UserError(f"sinks = {self.sinks}: must be 0 or more")

    def _check_latent(self) -> None:
        if self.latent is None:
            return
        if self.positions != "rotary":
            raise UserError(
                f"latent attention has a rotary part of its own, but positions = "
                f"{self.positions!r}; set positions = 'rotary'"
            )
        # Of its kinds of keys, only one is turned, or has heads: these can't apply
        for name in ("n_kv_heads", "rope_fraction", "sinks", "qk_norm", "qkv_bias"):
            value, usual = getattr(self, name), type(self).__dataclass_fields__[name]
            if value != usual.default:
                raise UserError(
                    f"{name} = {value!r} doesn't go with latent attention; leave it out"
                )

    def _check_experts(self) -> None:
        _check_pattern(self, "mlp_pattern", "deb")
        asked = set(self.mlp_pattern or "") & set("eb")
        if asked and self.experts is None:
            raise UserError(
                f"mlp_pattern = {self.mlp_pattern!r} has layers with experts: set "
                "experts.count"
            )
        if self.experts is not None and not self.expert_layers:
            raise UserError(
                f"experts are set, but mlp_pattern = {self.mlp_pattern!r} has no layer "
                f"'e' or 'b' among n_layers = {self.n_layers}"
            )

    @property
    def head_width(self) -> int:
        """K: the width of one head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def rotary_width(self) -> int:
        """How many numbers of a head are turned by its position."""
        if self.latent is not None:
            return self.latent.rope_width
        return int(self.head_width * self.rope_fraction)

    @property
    def kv_heads(self) -> int:
        """G: key/value heads, as many as query heads unless told otherwise."""
        return self.n_kv_heads or self.n_heads

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """What a cache keeps per token and layer: (heads, key width, value width)."""
        if self.latent is not None:
            return 1, self.latent.rank + self.latent.rope_width, 0
        return self.kv_heads, self.head_width, self.head_width

    @property
    def gated(self) -> bool:
        """Has the feed-forward part three matrices instead of two?"""
        return self.mlp in ("swiglu", "geglu")

    @property
    def ff_width(self) -> int:
        """F: the feed-forward width.

        A gated part has three matrices where others have two, so two thirds of 4 D
        keep the parameters equal (Shazeer 2020, section 3); rounded up to a multiple
        of 8.
        """
        if self.d_ff is not None:
            return self.d_ff
        if not self.gated:
            return 4 * self.d_model
        return (8 * self.d_model // 3 + 7) // 8 * 8

    @property
    def expert_width(self) -> int:
        """The width of one expert: by default a token meets as many weights as dense.

        Rounded up to a multiple of 8.
        """
        if self.experts.width is not None:
            return self.experts.width
        share = self.ff_width / (self.experts.active + self.experts.shared)
        return math.ceil(share / 8) * 8

    @property
    def layer_windows(self) -> tuple[int | None, ...]:
        """The window of each layer; None sees everything."""
        pattern = self.attention_pattern or ("w" if self.window else "f")
        return tuple(
            self.window if letter == "w" else None
            for letter in _repeated(pattern, self.n_layers)
        )

    @property
    def windowed_layers(self) -> tuple[int, ...]:
        """The numbers of the layers that have a window."""
        return tuple(i for i, w in enumerate(self.layer_windows) if w is not None)

    @property
    def layer_mlps(self) -> str:
        """What stands in each layer: d dense, e experts, b both."""
        pattern = self.mlp_pattern or ("e" if self.experts else "d")
        return _repeated(pattern, self.n_layers)

    @property
    def expert_layers(self) -> tuple[int, ...]:
        """The numbers of the layers that have experts."""
        return tuple(i for i, kind in enumerate(self.layer_mlps) if kind in "eb")

    @property
    def first_embedding_std(self) -> float:
        """The deviation with which embeddings begin (see `init_weights`)."""
        if self.embedding_std is not None:
            return self.embedding_std
        return 1 / math.sqrt(self.d_model) if self.init == "fan_in" else 0.02


def _check_pattern(config: ModelConfig, name: str, letters: str) -> None:
    pattern = getattr(config, name)
    if pattern is not None and (not pattern or set(pattern) - set(letters)):
        raise UserError(f"{name} = {pattern!r}: write it with the letters {letters!r}")


def _repeated(pattern: str, length: int) -> str:
    """
    >>> _repeated("wwf", 4)
    'wwfw'
    """
    return (pattern * length)[:length]


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
