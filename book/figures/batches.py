"""Figures of the chapter on batches and shifted labels."""

from __future__ import annotations

from collections.abc import Sequence

from shapes import QUERY, RESULT, arrow, caption, grid, picture

from folio.data.packing import pack
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

COLORS = ("train", "validation", "rate", "gradient", "other")
DOCUMENTS = (11, 5, 8, 4, 7)  # tokens, end of text included
LENGTH = 8


def shift() -> Markup:
    """Six tokens become five inputs and five targets."""
    words = ["the", "cat", "sat", "on", "the", "mat"]
    left, wide = 110, 58
    inputs, targets = words[:-1], words[1:]
    arrows = [
        arrow((left + wide * (i + 0.5), 106), (left + wide * (i + 0.5), 130))
        for i in range(len(inputs))
    ]
    return picture(
        480,
        168,
        label("window", 98, 33, "end", color="ink", font_weight=600),
        grid(left, 14, [words], color="other", cell=(wide, 28)),
        label("inputs", 98, 97, "end", color=QUERY, font_weight=600),
        grid(left, 78, [inputs], color=QUERY, cell=(wide, 28)),
        label("targets", 98, 151, "end", color=RESULT, font_weight=600),
        grid(left, 132, [targets], color=RESULT, cell=(wide, 28)),
        *arrows,
        arrow((left + wide * 0.5, 42), (left + wide * 0.5, 76)),
        arrow((left + wide * 5.5, 42), (left + wide * 5.5, 146), (404, 146)),
        narrow=True,
    )


def tape(
    x: float, y: float, documents: Sequence[tuple[int, int]], cell: float = 19
) -> list[Markup]:
    """Tokens in a row, colored by document; the last of each is the end of text."""
    parts, place = [], x
    for name, size in documents:
        for i in range(size):
            ends = i == size - 1
            box = {"x": place, "y": y, "width": cell, "height": 24}
            color = paint(COLORS[name % len(COLORS)])
            opacity = "0.75" if ends else "0.22"
            parts.append(
                tag(
                    "rect",
                    fill=color,
                    fill_opacity=opacity,
                    stroke=paint("rule"),
                    **box,
                )
            )
            if ends:
                parts.append(end_mark(place + cell / 2, y + 12))
            place += cell
    return parts


def end_mark(x: float, y: float) -> Markup:
    """What stands behind a document."""
    box = {"x": x - 3.5, "y": y - 3.5, "width": 7, "height": 7}
    return tag("rect", fill=paint("paper"), **box)


def windows() -> Markup:
    """Documents on one tape, cut into windows, dealt out in a shuffled order."""
    cell, left, top = 19, 20, 34
    total = sum(DOCUMENTS)
    whole = tape(left, top, list(enumerate(DOCUMENTS)), cell)
    cuts = (total - 1) // LENGTH
    brackets, order = [], (2, 0, 3, 1)
    for window in range(cuts):
        start = left + window * LENGTH * cell
        end = start + LENGTH * cell
        brackets.append(
            tag(
                "path",
                d=f"M{start + 3} {top + 32}v7H{end - 3}v-7",
                fill="none",
                stroke=paint("quiet"),
                stroke_width=1.5,
            )
        )
        brackets.append(caption(f"window {window}", (start + end) / 2, top + 56))
    ids = [name for name, size in enumerate(DOCUMENTS) for _ in range(size)]
    ends = {sum(DOCUMENTS[: i + 1]) - 1 for i in range(len(DOCUMENTS))}
    rows = []
    for place, window in enumerate(order):
        x = left + 70 + (place // 2) * 330
        y = top + 92 + (place % 2) * 34
        rows.append(label(f"window {window}", x - 8, y + 17, "end"))
        for i in range(LENGTH):
            token = window * LENGTH + i
            box = {"x": x + i * cell, "y": y, "width": cell, "height": 24}
            rows.append(
                tag(
                    "rect",
                    fill=paint(COLORS[ids[token]]),
                    fill_opacity="0.75" if token in ends else "0.22",
                    stroke=paint("rule"),
                    **box,
                )
            )
            if token in ends:
                rows.append(end_mark(x + i * cell + cell / 2, y + 12))
    return picture(
        720,
        226,
        label("five documents, one tape", left, 22, color="ink", font_weight=600),
        *whole,
        *brackets,
        *rows,
        label("first batch", left + 70, top + 176, color=QUERY, font_weight=600),
        label("second batch", left + 400, top + 176, color=QUERY, font_weight=600),
    )


def padded_or_packed() -> Markup:
    """The same short rows, one a line and filled up, or several a line."""
    sizes, length, cell, left = (7, 3, 5, 4, 2), 8, 20, 20
    parts = [
        caption("padded", left + length * cell / 2, 22),
        caption("packed", left + 250 + length * cell / 2, 22),
    ]
    for row, size in enumerate(sizes):
        y = 34 + 28 * row
        parts += tape(left, y, [(row, size)], cell)
        for i in range(size, length):
            box = {"x": left + i * cell, "y": y, "width": cell, "height": 24}
            parts.append(tag("rect", fill="none", stroke=paint("rule"), **box))
    groups = pack(sizes, length)
    for row, group in enumerate(groups):
        y = 34 + 28 * row
        used = sum(sizes[i] for i in group)
        parts += tape(left + 250, y, [(i, sizes[i]) for i in group], cell)
        for i in range(used, length):
            box = {"x": left + 250 + i * cell, "y": y, "width": cell, "height": 24}
            parts.append(tag("rect", fill="none", stroke=paint("rule"), **box))
    parts += mask(left + 470, 34, [sizes[i] for i in groups[1]], groups[1])
    parts.append(caption("the second row's mask", left + 470 + 70, 22))
    return picture(680, 190, *parts)


def mask(
    x: float, y: float, sizes: Sequence[int], names: Sequence[int]
) -> list[Markup]:
    """The triangles of a packed row: no token sees another document."""
    total, cell = sum(sizes), 17.5
    owner = [names[k] for k, size in enumerate(sizes) for _ in range(size)]
    return [
        tag(
            "rect",
            x=x + j * cell,
            y=y + i * cell,
            width=cell,
            height=cell,
            fill=paint(COLORS[owner[i]]),
            fill_opacity="0.6" if owner[i] == owner[j] and j <= i else "0",
            stroke=paint("rule"),
        )
        for i in range(total)
        for j in range(total)
    ]
