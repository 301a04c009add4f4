"""The one mask rule, for training and caches: positions decide, never slots."""

from __future__ import annotations

from torch import Tensor


def visible(
    query_positions: Tensor,
    key_positions: Tensor,
    window: int | None = None,
    sinks: int = 0,
    documents: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Which keys may each query see? (B, T), (B, S) -> bool (B, T, S).

    A query sees the keys at its own position and before; with a window only the last
    `window` of them, its own included, and the first `sinks` (Xiao et al. 2023). In a
    row packed with several documents, (B, T) and (B, S) say which token is of which,
    and none sees another's. Position -1 marks an empty slot of a cache, or padding,
    which nobody sees.

    >>> visible(torch.tensor([[1, 2]]), torch.tensor([[0, 1, 2, -1]])).int()
    tensor([[[1, 1, 0, 0],
             [1, 1, 1, 0]]], dtype=torch.int32)
    >>> visible(torch.tensor([[4]]), torch.arange(5)[None], window=2, sinks=1).int()
    tensor([[[1, 0, 0, 1, 1]]], dtype=torch.int32)
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    seen = (key >= 0) & (key <= query)
    if window is not None:
        seen &= (key > query - window) | (key < sinks)
    if documents is not None:
        seen &= documents[0][:, :, None] == documents[1][:, None, :]
    return seen


class Masks:
    """The masks of one forward: layers that look alike share one."""

    def __init__(
        self, positions: Tensor, plain: bool, documents: Tensor | None = None
    ) -> None:
        """`plain`: the positions (B, T) are 0, 1, 2, ... in every row."""
        self.positions, self.plain, self.documents = positions, plain, documents
        self.made: list[tuple[Tensor, int | None, int, Tensor]] = []

    def of(
        self, key_positions: Tensor, window: int | None = None, sinks: int = 0
    ) -> Tensor | None:
        """The mask (B, 1, T, S) for keys at (B, S); None: plainly causal."""
        if self.plain and key_positions is self.positions:
            if window is not None and key_positions.shape[1] <= window:
                window, sinks = None, 0  # the window is not felt
            if window is None and self.documents is None:
                return None
        for keys, *rule, mask in self.made:
            if keys is key_positions and rule == [window, sinks]:
                return mask
        both = None if self.documents is None else (self.documents, self.documents)
        mask = visible(self.positions, key_positions, window, sinks, both)[:, None]
        self.made.append((key_positions, window, sinks, mask))
        return mask
