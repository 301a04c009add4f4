"""Parts of a `ModelConfig` that are tables of their own, and how all are checked."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Literal

from folio.config import UserError


def check_choices(value) -> None:
    """A misspelled part must not silently become another one, or none."""
    for name, kind in typing.get_type_hints(type(value)).items():
        choices, chosen = typing.get_args(kind), getattr(value, name)
        if typing.get_origin(kind) is Literal and chosen not in choices:
            known = ", ".join(choices)
            raise UserError(f"{name} = {chosen!r}: choose one of {known}")


def check_at_least(value, least: int, *names: str) -> None:
    """Whole numbers with a smallest sensible value; None stands for a default."""
    for name in names:
        number = getattr(value, name)
        if number is not None and number < least:
            raise UserError(f"{name} = {number}: must be at least {least}")


def check_above_zero(value, *names: str) -> None:
    """Finite numbers above zero; None stands for a default."""
    for name in names:
        number = getattr(value, name)
        if number is not None and not 0 < number < math.inf:
            raise UserError(f"{name} = {number}: must be above 0")


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions reach past the length they were trained on.

    See `folio.model.positions.rotary_frequencies` for what each kind does.
    """

    kind: Literal["linear", "ntk", "yarn", "llama3"]
    factor: float  # how many times longer than before
    original_len: int | None = None  # yarn, llama3: what it was trained on before
    low: float = 1.0  # turns over original_len below which a pair is stretched whole
    high: float | None = None  # turns above which it is left; none: yarn 32, llama3 4
    magnitude: float | None = None  # yarn: of cos and sin; none: 0.1 ln(factor) + 1

    def __post_init__(self) -> None:
        check_choices(self)
        check_above_zero(self, "low", "high", "magnitude")
        if not 1 <= self.factor < math.inf:
            raise UserError(f"factor = {self.factor}: must be at least 1")
        if self.kind in ("yarn", "llama3"):
            if self.original_len is None:
                raise UserError(
                    f"kind = {self.kind!r} needs original_len: the max_seq_len that "
                    "the model was trained with"
                )
            if self.high_turns <= self.low:
                raise UserError(
                    f"high = {self.high_turns}: must be above low = {self.low}"
                )
        check_at_least(self, 1, "original_len")

    @property
    def high_turns(self) -> float:
        """Pairs that turn more often than this over `original_len` stay as they are."""
        if self.high is not None:
            return self.high
        return 32.0 if self.kind == "yarn" else 4.0


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of a feed-forward part (or beside it)."""

    count: int = 8  # E
    active: int = 2  # experts that each token is sent to
    shared: int = 0  # experts that every token is sent to, besides
    width: int | None = None  # of one expert; none: d_ff / (active + shared)
    router: Literal["softmax", "sigmoid"] = "softmax"
    renormalize: bool = True  # the weights of a token's experts sum to one
    balance: float = 0.01  # weight of the load-balancing loss; 0: none
    z_loss: float = 0.0  # weight of the router's z-loss
    bias_rate: float = 0.0  # sigmoid: balance by a bias, without a loss; 0.001 is usual

    def __post_init__(self) -> None:
        check_choices(self)
        check_at_least(self, 1, "count", "active", "width")
        check_at_least(self, 0, "shared")
        if self.active > self.count:
            raise UserError(
                f"active = {self.active} experts of count = {self.count}: a token "
                "can't be sent to more experts than there are"
            )
        for name in ("balance", "z_loss", "bias_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} = {getattr(self, name)}: must be 0 or more")
        if self.bias_rate and self.router != "sigmoid":
            raise UserError(
                f"bias_rate = {self.bias_rate} balances a router of kind 'sigmoid'; "
                "with 'softmax' use balance"
            )


@dataclass(frozen=True)
class Latent:
    """Keys and values from one small vector per token, which is all a cache keeps.

    See `folio.model.latent`.
    """

    rank: int = 64  # width of the vector that keys and values come from
    rope_width: int = 16  # rotary numbers that each head has besides its K others
    query_rank: int | None = None  # the same for queries; none: straight from D

    def __post_init__(self) -> None:
        check_at_least(self, 1, "rank", "query_rank")
        if self.rope_width < 2 or self.rope_width % 2:
            raise UserError(
                f"rope_width = {self.rope_width}: pairs are turned, so it must be "
                "even, and at least 2"
            )
