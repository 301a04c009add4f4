"""A table of colored cells over the tokens of a text: lenses, experts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from folio.viz.color import LEVELS, paint
from folio.viz.markup import Markup, tag
from folio.viz.tokens import visible

LONGEST = 12  # characters of a token in a cell or a head
MIDDLE = LEVELS // 2  # from this level on, letters are of the other side


@dataclass(frozen=True)
class Cell:
    """A share of 0 to 1 decides the color; `text` stands in it, `tip` explains it."""

    share: float
    text: str = ""
    tip: str = ""
    marked: bool = False


def level(share: float) -> int:
    """The color of a share: its square root, as for attention.

    >>> [level(share) for share in (0, 0.04, 0.25, 1, float("nan"))]
    [0, 3, 8, 15, 0]
    """
    if not share > 0:
        return 0
    return round(math.sqrt(min(share, 1.0)) * (LEVELS - 1))


def cell_grid(
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell]]],
    *,
    description: str,
    corner: str = "",
) -> Markup:
    """A row per (name, cells), a column per token; it scrolls sideways by itself."""
    heads = [tag("th", _short(name), scope="col") for name in columns]
    body = [
        tag("tr", tag("th", name, scope="row"), *map(_cell, cells))
        for name, cells in rows
    ]
    inner = tag(
        "table",
        tag("thead", tag("tr", tag("th", corner), *heads)),
        tag("tbody", *body),
        aria_label=description,
    )
    return tag("div", inner, class_="grid-view", tabindex="0", role="group")


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _cell(cell: Cell) -> Markup:
    depth = level(cell.share)
    classes = ["deep"] * (depth >= MIDDLE) + ["marked"] * cell.marked
    return tag(
        "td",
        _short(cell.text),
        class_=" ".join(classes) or None,
        style=f"background:{paint(f'attention-{depth}')}",
        data_tip=cell.tip or None,
    )
