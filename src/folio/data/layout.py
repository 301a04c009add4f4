"""How a model reads the rows of a batch: shared prompts once, and little padding.

A batch is rows, one text each, and that is all an objective sees. Half of what such
rows hold is often read for nothing: padding, and prompts that several answers repeat.
So a batch may bring `slots`, which say where each token of its rows is to be read; what
the model finds there comes back in rows. The result is that of the rows as they stand,
up to rounding, for a token sees its own text at its own positions, whatever is beside
it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from folio.data.batch import Batch
from folio.data.packing import pack

PACKED = ("positions", "documents")  # what a row of several documents comes with
WIDEST = 512  # slots of a row: beyond, attention to a mask costs more than it spares
WORTH = 0.9  # of the rows as they stand; a layout that reads more is left alone
WIDER = (1.0, 1.1, 1.2, 1.3)  # times the longest piece: what rows are tried at
ATTENTION = 1 / 512  # what a token costs more for each slot of its row: about a fifth


def respond(model: nn.Module, batch: Batch, **asked: object):
    """The one call of the model that an objective makes, however rows are laid out.

    asked: `targets` and `where` (B, T), and what else `Decoder.answer` takes. Returns
    the model's output, in rows; of what was not asked for, or is padding, all is 0.
    """
    if "slots" in batch:
        return _respond_from_slots(model, batch, **asked)
    packed = {name: batch[name] for name in PACKED if name in batch}
    return model(batch.inputs, **asked, **packed)


def _respond_from_slots(
    model: nn.Module,
    batch: Batch,
    targets: Tensor | None = None,
    where: Tensor | None = None,
    **asked: object,
):
    rows, length = batch.inputs.shape
    taken = batch.slots >= 0  # (R, W)
    place = batch.slots.clamp(min=0)
    if targets is not None:
        asked["targets"] = targets.flatten()[place]
    if where is not None:
        asked["where"] = where.flatten()[place] & taken
    output = model(
        batch.inputs.flatten()[place],
        positions=torch.where(taken, place % length, -1),
        documents=batch.slot_documents,
        **asked,
    )
    found = asked.get("where", taken)

    def in_rows(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        flat = x.new_zeros(rows * length, *x.shape[2:])
        return flat.index_put((place[found],), x[found]).unflatten(0, (rows, length))

    router_loss = output.router_loss
    if router_loss is not None:  # (R,): each row has what was asked where it was read
        read_in = torch.arange(len(place), device=place.device)[:, None]
        owner = read_in.new_zeros(rows).index_put(
            (place[taken] // length,), read_in.expand_as(place)[taken]
        )
        router_loss = router_loss[owner]
    names = ("logits", "logprobs", "entropy", "values")
    moved = {name: in_rows(getattr(output, name)) for name in names}
    return output._replace(router_loss=router_loss, **moved)


def lay_out(inputs: Tensor, starts: Tensor, stops: Tensor) -> dict[str, Tensor]:
    """How to read rows (B, T) that are answers from `starts` (B,) to `stops` (B,).

    Neighbors with the same ids before their answers share these: they are read once.
    Several such groups share a row. The result is empty if that spares less than a
    tenth; else slots (R, W), places in the flattened rows, -1 for none, and
    slot_documents (R, W, 2), of each slot its own document and the one it goes on from.

    >>> inputs = torch.tensor([[5, 6, 7, 8, 0, 0], [5, 6, 9, 0, 0, 0]])
    >>> laid = lay_out(inputs, starts=torch.tensor([2, 2]), stops=torch.tensor([4, 3]))
    >>> laid["slots"]
    tensor([[0, 1, 2, 3, 8]])
    >>> laid["slot_documents"].mT
    tensor([[[0, 0, 1, 1, 2],
             [0, 0, 0, 0, 0]]])
    """
    pieces = list(_pieces(inputs.numpy(), starts.tolist(), stops.tolist()))
    sizes = [sum(map(len, piece)) for piece in pieces]
    rows, width = _packed(sizes)
    if len(rows) * width > WORTH * inputs.numel():
        return {}
    slots = np.full((len(rows), width), -1)
    documents = np.full((len(rows), width, 2), -1)
    for row, members in enumerate(rows):
        stop = number = 0
        for trunk, *branches in (pieces[i] for i in members):
            root = number
            for part in (trunk, *branches):
                start, stop = stop, stop + len(part)
                slots[row, start:stop] = part
                documents[row, start:stop] = number, root
                number += 1
    laid = {"slots": slots, "slot_documents": documents}
    return {name: torch.from_numpy(array) for name, array in laid.items()}


def _packed(sizes: list[int]) -> tuple[list[list[int]], int]:
    """Rows of pieces, and how wide they are, that take the least time to read."""
    found = []
    for wider in WIDER:
        rows = pack(sizes, int(wider * max(sizes)))
        width = max(sum(sizes[i] for i in row) for row in rows)
        found.append((len(rows) * width * (1 + ATTENTION * width), rows, width))
    return min(found)[1:]


def _pieces(
    inputs: np.ndarray, starts: list[int], stops: list[int]
) -> Iterator[list[np.ndarray]]:
    """What is read side by side: the slots of a shared prompt, and of its answers."""
    length = inputs.shape[1]
    piece: list[np.ndarray] = []
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        branch = np.arange(row * length + start, row * length + stop)
        if piece:
            trunk, size = piece[0] % length, sum(map(len, piece))
            same = len(trunk) == start > 0
            same = same and np.array_equal(inputs[row, :start], inputs.flat[piece[0]])
            if same and size + len(branch) <= WIDEST:
                piece.append(branch)
                continue
            yield piece
        piece = [np.arange(row * length, row * length + start), branch]
    yield piece


def answers_laid_out(inputs: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """`lay_out` for rows of which every last weighted target ends an answer."""
    weighted = weights != 0
    starts = weighted.int().argmax(1)
    return lay_out(inputs, starts, ends_of(weights))


def ends_of(weights: Tensor) -> Tensor:
    """One more than the place of each row's last weight: (B, T) -> (B,).

    >>> ends_of(torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    tensor([3, 1])
    """
    return (torch.arange(1, weights.shape[1] + 1) * (weights != 0)).amax(1)
