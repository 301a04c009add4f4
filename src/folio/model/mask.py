"""The one mask rule, for training and caches: positions decide, never slots."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor


def sees(
    query: Tensor, key: Tensor, window: int | None, sinks: int, both_ways: bool = False
) -> Tensor:
    """The rule itself, for positions of any shapes that broadcast -> bool."""
    seen = (key >= 0) & ((key <= query) | both_ways)
    if window is None:
        return seen
    near = (key > query - window) & (key < query + window)
    return seen & (near | (key < sinks))


def visible(
    query_positions: Tensor,
    key_positions: Tensor,
    window: int | None = None,
    sinks: int = 0,
    documents: tuple[Tensor, Tensor] | None = None,
    both_ways: bool = False,
) -> Tensor:
    """Which keys may each query see? (B, T), (B, S) -> bool (B, T, S).

    A query sees the keys at its own position and before; with a window only the last
    `window` of them, its own included, and the first `sinks` (Xiao et al. 2023). In a
    row packed with several documents, (B, T) and (B, S) say which token is of which,
    and none sees another's; (B, T, N) name N documents that a token sees, its own
    first. Position -1 marks an empty slot of a cache, or padding, which nobody sees.
    In an encoder they look `both_ways`: ahead as far as back.

    >>> visible(torch.tensor([[1, 2]]), torch.tensor([[0, 1, 2, -1]])).int()
    tensor([[[1, 1, 0, 0],
             [1, 1, 1, 0]]], dtype=torch.int32)
    >>> visible(torch.tensor([[4]]), torch.arange(5)[None], window=2, sinks=1).int()
    tensor([[[1, 0, 0, 1, 1]]], dtype=torch.int32)
    >>> keys = torch.tensor([[0, 1, 2, -1]])
    >>> visible(torch.tensor([[0, 2]]), keys, window=2, both_ways=True).int()
    tensor([[[1, 1, 0, 0],
             [0, 1, 1, 0]]], dtype=torch.int32)
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    seen = sees(query, key, window, sinks, both_ways)
    if documents is not None:
        seen = seen & in_reach(documents[0][:, :, None], documents[1][:, None, :], 3)
    return seen


def in_reach(query: Tensor, key: Tensor, dims: int) -> Tensor:
    """Is the key's document one that the query sees? bool of `dims` dimensions.

    A dimension more than that tells several documents, of which the first is a
    token's own.
    """
    if query.ndim == dims:
        return query == key
    seen = (query[..., n] == key[..., 0] for n in range(query.shape[-1]))
    return reduce(torch.logical_or, seen)


class Mask:
    """Which keys each query sees, in the forms that `attend` wants, each made once.

    Takes what `visible` takes. causal: it is the plain triangle, which kernels know
    without being shown. blind: some query, being padding, may see nothing at all.
    """

    def __init__(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        window: int | None = None,
        sinks: int = 0,
        documents: tuple[Tensor, Tensor] | None = None,
        *,
        both_ways: bool = False,
        causal: bool = False,
        blind: bool = True,
    ):
        self.query_positions, self.key_positions = query_positions, key_positions
        self.window, self.sinks, self.documents = window, sinks, documents
        self.both_ways, self.causal, self.blind = both_ways, causal, blind
        self._made: dict[object, Any] = {}

    def once(self, form: object, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept under the name `form`."""
        if form not in self._made:
            self._made[form] = make()
        return self._made[form]

    @property
    def seen(self) -> Tensor:
        """bool (B or 1, 1, T, S): the same for all heads."""
        rule = (self.window, self.sinks, self.documents, self.both_ways)
        return self.once(
            "seen",
            lambda: visible(self.query_positions, self.key_positions, *rule)[:, None],
        )

    @property
    def sink_keys(self) -> Tensor:
        """Which keys are sinks: bool (B or 1, 1, 1, S)."""
        return self.once(
            "sinks", lambda: (self.key_positions < self.sinks)[:, None, None]
        )

    @property
    def blind_queries(self) -> Tensor:
        """Which queries see nothing: bool (B or 1, 1, T, 1)."""
        return self.once("blind", lambda: ~self.seen.any(-1, keepdim=True))

    def added(self, dtype: torch.dtype, blind_see_all: bool = False) -> Tensor:
        """What is added to the scores: 0 where seen, -inf where not; shape of `seen`.

        With `blind_see_all`, queries that see nothing see everything instead: a softmax
        over nothing is NaN, and so are its gradients. Their result must be dropped.
        """
        opened = blind_see_all and self.blind

        def make() -> Tensor:
            seen = self.seen | self.blind_queries if opened else self.seen
            zeros = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            return zeros.masked_fill_(~seen, float("-inf"))

        return self.once((dtype, opened), make)


def causal_mask(length: int, device: torch.device | str = "cpu") -> Mask:
    """Each of `length` tokens sees itself and all before."""
    positions = torch.arange(length, device=device)[None]
    return Masks(positions, plain=True).of(positions)


class Masks:
    """The masks of one forward: layers that look alike share one."""

    def __init__(
        self,
        positions: Tensor,
        plain: bool,
        documents: Tensor | None = None,
        both_ways: bool = False,
    ) -> None:
        """`plain`: the positions (B, T) are 0, 1, 2, ... in every row."""
        self.positions, self.plain, self.documents = positions, plain, documents
        self.both_ways = both_ways
        self.made: list[tuple[Tensor, int | None, int, Mask]] = []

    def of(
        self, key_positions: Tensor, window: int | None = None, sinks: int = 0
    ) -> Mask:
        """The mask for keys at (B, S)."""
        own = key_positions is self.positions
        if window is None or (self.plain and own and key_positions.shape[1] <= window):
            window, sinks = None, 0  # no window is felt
        for keys, *rule, mask in self.made:
            if keys is key_positions and rule == [window, sinks]:
                return mask
        both = None if self.documents is None else (self.documents, self.documents)
        plain = self.plain and own
        causal = plain and window is None and both is None and not self.both_ways
        mask = Mask(
            self.positions,
            key_positions,
            window,
            sinks,
            both,
            both_ways=self.both_ways,
            causal=causal,
            blind=not plain,
        )
        self.made.append((key_positions, window, sinks, mask))
        return mask
