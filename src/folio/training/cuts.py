"""Tensors in parts: how a whole is cut over ranks, and put together again.

A weight may be cut twice: among the ranks that share a batch, by heads or features, and
what each of those got once more among the ranks that read different data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Cut:
    """Along `dim`, into `count` pieces, of which this rank has number `index`."""

    dim: int
    count: int
    index: int
    axis: str  # of the mesh, along which the others lie
    group: dist.ProcessGroup | None = None


def piece(size: int, count: int, index: int) -> tuple[int, int]:
    """Where piece `index` begins, and its length: all alike but the last ones.

    >>> [piece(10, 4, index) for index in range(4)]
    [(0, 3), (3, 3), (6, 3), (9, 1)]
    >>> piece(2, 4, 3)  # more ranks than rows
    (2, 0)
    """
    length = -(-size // count)
    start = min(size, index * length)
    return start, min(length, size - start)


def is_part(tensor: Tensor) -> bool:
    """Whether it is a DTensor; to import that class would take half a second."""
    return hasattr(tensor, "to_local")


def cuts_of(tensor: Tensor) -> list[Cut]:
    """How `tensor` is cut, outermost first; not at all, if it isn't a DTensor."""
    if not is_part(tensor):
        return []
    mesh, cuts = tensor.device_mesh, []
    for number in reversed(range(mesh.ndim)):  # "tensor" cuts first, then "data"
        dim = getattr(tensor.placements[number], "dim", None)
        if dim is not None:
            axis = mesh.mesh_dim_names[number]
            cuts.append(
                Cut(
                    dim,
                    mesh.size(number),
                    mesh.get_local_rank(number),
                    axis,
                    mesh.get_group(number),
                )
            )
    return cuts


def local(tensor: Tensor) -> Tensor:
    """What this rank has of it, in the same memory."""
    return tensor.to_local() if is_part(tensor) else tensor


def part(whole: Tensor, cuts: list[Cut]) -> Tensor:
    """This rank's piece of a whole tensor: a view.

    >>> part(torch.arange(8), [Cut(0, 2, 1, "tensor"), Cut(0, 4, 0, "data")])
    tensor([4])
    """
    for cut in cuts:
        start, length = piece(whole.shape[cut.dim], cut.count, cut.index)
        whole = whole.narrow(cut.dim, start, length)
    return whole


def gathered(mine: Tensor, cuts: list[Cut], shape: torch.Size) -> Tensor:
    """The whole, of `shape`, of which each rank has `mine`; all ranks at once."""
    sizes = [list(shape)]  # before each cut
    for cut in cuts:
        size = list(sizes[-1])
        size[cut.dim] = piece(size[cut.dim], cut.count, cut.index)[1]
        sizes.append(size)
    for cut, size in zip(reversed(cuts), reversed(sizes[:-1]), strict=True):
        longest = piece(size[cut.dim], cut.count, 0)[1]
        filling = [0, 0] * (mine.ndim - 1 - cut.dim)
        filling += [0, longest - mine.shape[cut.dim]]
        mine = F.pad(mine, filling).contiguous()  # all must send equally much
        pieces = [torch.empty_like(mine) for _ in range(cut.count)]
        dist.all_gather(pieces, mine, group=cut.group)
        mine = torch.cat(pieces, cut.dim).narrow(cut.dim, 0, size[cut.dim])
    return mine
