"""Name tables: the same weights under their names and under ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder


class Source(Protocol):
    """Tensors by name, read one at a time: an open file, a folder of shards, a dict."""

    def keys(self) -> Iterable[str]: ...

    def get(self, name: str) -> Tensor: ...


class Change(NamedTuple):
    """What is done to the tensors of one row, and its exact inverse."""

    to_ours: Callable[[list[Tensor]], list[Tensor]]
    to_theirs: Callable[[list[Tensor]], list[Tensor]]


def _exact(x: Tensor) -> Tensor:
    """At least fp32: one plus a small number is one in bf16."""
    return x if x.dtype == torch.float64 else x.float()


SAME = Change(lambda theirs: theirs, lambda ours: ours)
TRANSPOSE = Change(lambda theirs: [theirs[0].mT], lambda ours: [ours[0].mT])
# One tensor of theirs is three of ours, one below the other: query, key, value
SPLIT = Change(lambda theirs: list(theirs[0].chunk(3)), lambda ours: [torch.cat(ours)])
TRANSPOSE_SPLIT = Change(
    lambda theirs: list(theirs[0].mT.chunk(3)), lambda ours: [torch.cat(ours).mT]
)
# One tensor of theirs per expert, one of ours for all: (E, ...)
STACK = Change(
    lambda theirs: [torch.stack(theirs)], lambda ours: list(ours[0].unbind())
)
# Gains stored as their distance from one. Adding rounds; taking away what was added
# does not (Sterbenz), so what came in goes out and comes in again bit for bit.
ADD_ONE = Change(
    lambda theirs: [_exact(theirs[0]) + 1], lambda ours: [_exact(ours[0]) - 1]
)


@dataclass(frozen=True)
class Row:
    """One line of a table, read from left to right to import, and back to export.

    `{layer}` in a name stands for each layer, `{expert}` for each expert. A row whose
    names a model doesn't have (a bias, a tied head) is passed over.
    """

    theirs: str
    ours: str | tuple[str, ...]
    change: Change = SAME


@dataclass(frozen=True)
class Table:
    """How a family names its tensors."""

    rows: tuple[Row, ...]
    prefix: str  # which files of the bare model, without its head, leave out
    surplus: tuple[str, ...] = ()  # endings of tensors that hold nothing learned


class Entry(NamedTuple):
    """A row filled in for one layer of one model."""

    theirs: list[str]
    ours: list[str]
    change: Change


def tensor_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Our names and shapes of a decoder's weights, without making them."""
    return {name: tensor.shape for name, tensor in _empty_weights(config).items()}


def _empty_weights(config: ModelConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        weights = Decoder(config).state_dict()
    if config.tie_embeddings:
        del weights["head.weight"]
    return weights


def entries(table: Table, config: ModelConfig) -> Iterator[Entry]:
    """Every row, filled in for each layer that has it."""
    wanted = tensor_shapes(config).keys()
    experts = config.experts.count if config.experts else 0
    for row in table.rows:
        ours = (row.ours,) if isinstance(row.ours, str) else row.ours
        layers = range(config.n_layers if "{layer}" in row.theirs else 1)
        for layer in layers:
            names = [name.replace("{layer}", str(layer)) for name in ours]
            if not wanted >= set(names):
                continue
            theirs = row.theirs.replace("{layer}", str(layer))
            count = experts if "{expert}" in theirs else 1
            each = [theirs.replace("{expert}", str(e)) for e in range(count)]
            yield Entry(each, names, row.change)


def their_shapes(table: Table, config: ModelConfig) -> dict[str, torch.Size]:
    """The names and shapes that files of this model have, nothing read or made."""
    weights, shapes = _empty_weights(config), {}
    for entry in entries(table, config):
        theirs = entry.change.to_theirs([weights.pop(name) for name in entry.ours])
        shapes |= zip(entry.theirs, (tensor.shape for tensor in theirs), strict=True)
    assert not weights, f"rows are missing for {sorted(weights)}"
    return shapes


def to_ours(
    table: Table, config: ModelConfig, source: Source
) -> Iterator[tuple[str, Tensor]]:
    """Yield (our name, tensor), reading from `source` what each needs and no more.

    Raises UserError for missing, unexpected or misshapen tensors, before the first is
    read where names alone tell.
    """
    found = set(source.keys())
    experts = config.experts.count if config.experts else 0
    for number, what in ((config.n_layers, "layers"), (experts, "experts")):
        if number > len(found):  # before a name is made for each
            raise UserError(
                f"the configuration has {number} {what}, but the files hold only "
                f"{len(found)} tensors"
            )
    shapes = their_shapes(table, config)
    cut = 0
    if not any(name.startswith(table.prefix) for name in found):
        cut = len(table.prefix)  # a bare model
    stored = {
        name: name[cut:] if name.startswith(table.prefix) else name for name in shapes
    }
    _check_names(set(stored.values()), found, table.surplus, config.tie_embeddings)

    def read(name: str) -> Tensor:
        tensor = source.get(stored[name])
        if tensor.shape != shapes[name] or not tensor.is_floating_point():
            raise UserError(
                f"tensor {stored[name]!r} is {_kind(tensor)}, the configuration asks "
                f"for {tuple(shapes[name])} of floating point"
            )
        return tensor

    for entry in entries(table, config):
        ours = entry.change.to_ours([read(name) for name in entry.theirs])
        if "embedding.weight" in entry.ours and config.tie_embeddings:
            _check_tied(source, found, ours[0])
        yield from zip(entry.ours, ours, strict=True)


def to_theirs(
    table: Table, config: ModelConfig, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Our weights by name -> theirs by name, on the CPU, contiguous."""
    theirs, left = {}, set(weights)
    for entry in entries(table, config):
        left -= set(entry.ours)
        changed = entry.change.to_theirs([weights[name] for name in entry.ours])
        for name, tensor in zip(entry.theirs, changed, strict=True):
            theirs[name] = tensor.detach().to("cpu").contiguous()
    assert not left, f"rows are missing for {sorted(left)}"
    return theirs


def _check_names(
    wanted: set[str], found: set[str], surplus: tuple[str, ...], tied: bool
) -> None:
    """A missing or an extra tensor means that this isn't the model we think it is."""
    missing, extra = wanted - found, found - wanted
    extra = {name for name in extra if not name.endswith(surplus)}
    if tied:
        extra -= {"lm_head.weight"}  # see _check_tied
    if missing or extra:
        parts = [
            f"{word} {_some(names)}"
            for word, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        raise UserError(f"weights do not fit the configuration: {', '.join(parts)}")


def _some(names: set[str], at_most: int = 5) -> str:
    """
    >>> _some({"b", "a"}), _some({"b", "a", "c"}, at_most=2)
    ("'a', 'b'", "'a', 'b' and 1 more")
    """
    shown = ", ".join(map(repr, sorted(names)[:at_most]))
    rest = len(names) - at_most
    return shown if rest <= 0 else f"{shown} and {rest} more"


def _check_tied(source: Source, found: set[str], embedding: Tensor) -> None:
    """Some files keep a copy of a tied head; it must be one."""
    if "lm_head.weight" not in found:
        return
    if not torch.equal(source.get("lm_head.weight"), embedding):
        raise UserError(
            "tie_word_embeddings = true, but lm_head.weight isn't the embedding; set "
            "it to false in config.json"
        )


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
