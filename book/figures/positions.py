"""Figures of the chapter on embeddings and positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from shapes import RESULT, arrow, caption, grid, picture

from folio.model.positions import sinusoidal
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

WORDS = ("dog", "bites", "man")
TABLE = ((1, 2), (3, 0), (2, 1))
PLACES = ((0, 1), (1, 0), (0, -1))


def lookup() -> Markup:
    """Rows of the table of words, rows of the table of places, and their sums."""
    orders = ((0, 1, 2), (2, 1, 0))
    parts = [
        caption("words", 104, 18, "train"),
        caption("places", 104, 152, "rate"),
        grid(60, 28, texts(TABLE), color="train"),
        grid(60, 162, texts(PLACES), color="rate"),
        *(label(w, 50, 47 + 28 * i, "end") for i, w in enumerate(WORDS)),
        *(label(str(i), 50, 181 + 28 * i, "end") for i in range(3)),
        arrow((166, 70), (226, 70)),
        arrow((166, 198), (226, 198)),
    ]
    for top, order in zip((28, 162), orders, strict=True):
        sums = [
            [a + b for a, b in zip(TABLE[word], place, strict=True)]
            for word, place in zip(order, PLACES, strict=True)
        ]
        names = [f"{WORDS[w]} at {i}" for i, w in enumerate(order)]
        title = " ".join(WORDS[w] for w in order)
        parts += [
            caption(title, 354, top - 10, RESULT),
            grid(310, top, texts(sums), color=RESULT),
            *(
                label(n, 300, top + 19 + 28 * i, "end", font_size=12)
                for i, n in enumerate(names)
            ),
        ]
    return picture(420, 254, *parts, narrow=True)


def texts(rows: Sequence[Sequence[int]]) -> list[list[str]]:
    return [[str(value) for value in row] for row in rows]


def waves(places: int = 48, width: int = 32) -> Markup:
    """The table of sines: a row for each place, a column for each number."""
    table = sinusoidal(torch.arange(places), width).tolist()
    cell, left, top = 13.0, 40, 30
    high = 6.0
    cells = [
        tag(
            "rect",
            x=left + cell * j,
            y=top + high * i,
            width=cell,
            height=high,
            fill=paint("train" if value > 0 else "validation"),
            fill_opacity=f"{abs(value):.2f}",
        )
        for i, row in enumerate(table)
        for j, value in enumerate(row)
    ]
    marks = [
        label(str(i), left - 6, top + high * i + 8, "end", font_size=11)
        for i in range(0, places, 8)
    ]
    return picture(
        490,
        342,
        label("place", left - 6, 18, "end", font_size=11),
        label("fast pairs", left, 18, font_size=11),
        label("slow pairs", left + cell * width, 18, "end", font_size=11),
        *marks,
        tag("g", *cells, shape_rendering="crispEdges"),
        narrow=True,
    )
