"""What the book's figures share: boxes, arrows, and numbers in a grid.

Colors mean the same on every page: queries are `train` (blue), keys `validation`
(orange), values `rate` (teal), what a formula makes of them `gradient` (purple).
"""

from __future__ import annotations

from collections.abc import Sequence

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

QUERY, KEY, VALUE, RESULT = "train", "validation", "rate", "gradient"


def picture(width: int, height: int, *parts: object, narrow: bool = False) -> Markup:
    """The whole drawing; a `narrow` one fits a phone as it is."""
    return tag(
        "svg",
        arrowheads(),
        *parts,
        viewBox=f"0 0 {width} {height}",
        class_="narrow" if narrow else None,
        font_size=13,
    )


def arrowheads() -> Markup:
    """The ends of arrows, quiet and lit."""
    tips = [
        tag(
            "marker",
            tag("path", d="M0 0L8 4L0 8Z", fill=paint(color)),
            id=f"tip-{color}",
            viewBox="0 0 8 8",
            refX=7,
            refY=4,
            markerWidth=7,
            markerHeight=7,
            orient="auto",
        )
        for color in ("quiet", "train")
    ]
    return tag("defs", *tips)


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    *lines: str,
    color: str = "other",
    lit: bool = False,
    filled: bool = True,
) -> Markup:
    """A rounded box with lines of text in its middle; a lit one is in full color."""
    text_color = "paper" if lit else "ink"
    top = y + height / 2 + 4.5 - 8 * (len(lines) - 1)
    texts = [
        label(
            line,
            x + width / 2,
            top + 16 * index,
            "middle",
            color=text_color,
            font_weight=600 if lit and index == 0 else None,
        )
        for index, line in enumerate(lines)
    ]
    fill = paint(color) if lit else paint("surface") if filled else "none"
    place = {"x": x, "y": y, "width": width, "height": height, "rx": 5}
    return tag("g", tag("rect", fill=fill, stroke=paint(color), **place), *texts)


def arrow(*points: tuple[float, float], color: str = "quiet") -> Markup:
    """A line through the points, with a tip at its end."""
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    return tag(
        "path",
        d=path,
        fill="none",
        stroke=paint(color),
        stroke_width=1.5,
        marker_end=f"url(#tip-{color})",
    )


def grid(
    x: float,
    y: float,
    rows: Sequence[Sequence[str]],
    *,
    color: str,
    cell: tuple[float, float] = (44, 28),
    shares: Sequence[Sequence[float]] | None = None,
) -> Markup:
    """Numbers in cells; a share of 0 to 1 says how strongly a cell is filled."""
    wide, high = cell
    parts = []
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            share = 0.12 if shares is None else shares[i][j]
            left, top = x + j * wide, y + i * high
            place = {"x": left, "y": top, "width": wide, "height": high}
            parts.append(
                tag(
                    "rect",
                    fill=paint(color),
                    fill_opacity=f"{0.75 * share:.2f}",
                    stroke=paint("rule"),
                    **place,
                )
            )
            middle = {"x": left + wide / 2, "y": top + high / 2 + 4.5}
            ink = "paper" if share > 0.66 else "ink"
            parts.append(label(text, *middle.values(), "middle", color=ink))
    return tag("g", *parts)


def caption(text: str, x: float, y: float, color: str = "ink") -> Markup:
    """The name of a part of a drawing, centered above it."""
    return label(text, x, y, "middle", color=color, font_weight=600)
