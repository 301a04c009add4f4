"""Final values of a few groups: a dot for each, their mean and its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from folio.viz.color import paint
from folio.viz.markup import Markup, join, tag
from folio.viz.scale import Scale, fit, tick_labels
from folio.viz.svg import CHARACTER, FONT, label

ROW = 30


@dataclass(frozen=True)
class Dots:
    """One row: the values, their mean, and the error that its bar shows."""

    name: str
    values: Sequence[float]
    mean: float
    error: float | None
    color: str


def dot_plot(rows: Sequence[Dots], x_label: str, *, width: int = 920) -> Markup:
    """The rows one below the other, over one axis that need not begin at zero."""
    left = 16 + max(len(row.name) for row in rows) * CHARACTER
    edges = [v for row in rows for v in (*row.values, *bar_of(row))]
    x = fit(np.array(edges), left + 10, width - 24, False)
    bottom = 12 + ROW * len(rows)
    body = [_axis(x, bottom, x_label, max(2, width // 150))]
    for place, row in enumerate(rows):
        y = 12 + ROW * (place + 0.5)
        body.append(label(row.name, left, y + 4, "end", row.color))
        body.append(_error_bar(x, y, row))
        body += [
            tag("circle", cx=float(x(v)), cy=y, r=3.2, fill=paint(row.color))
            for v in row.values
        ]
    return tag(
        "svg",
        tag("title", x_label),
        *body,
        class_="chart-svg",
        viewBox=f"0 0 {width} {height_of(rows)}",
        role="img",
        font_size=FONT,
    )


def height_of(rows: Sequence[Dots]) -> int:
    """How high the drawing of these rows is."""
    return 56 + ROW * len(rows)


def bar_of(row: Dots) -> tuple[float, float]:
    """
    >>> bar_of(Dots("a", [1.0, 3.0], 2.0, 0.5, "train"))
    (1.5, 2.5)
    """
    error = row.error or 0.0
    return row.mean - error, row.mean + error


def _error_bar(x: Scale, y: float, row: Dots) -> Markup:
    """A high mark at the mean, and a bar from one error below it to one above."""
    start, end = (float(x(edge)) for edge in bar_of(row))
    line = {"stroke": paint(row.color), "stroke_width": 2.0}
    marks = [tag("line", x1=start, x2=end, y1=y, y2=y, stroke_opacity=0.6, **line)]
    for place, half in ((start, 5), (float(x(row.mean)), 10), (end, 5)):
        marks.append(tag("line", x1=place, x2=place, y1=y - half, y2=y + half, **line))
    return join(marks)


def _axis(x: Scale, y: float, name: str, count: int) -> Markup:
    ticks = x.ticks(count)
    marks = [tag("line", x1=x.start, x2=x.end, y1=y, y2=y, stroke=paint("rule"))]
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        place = float(x(tick))
        marks.append(tag("line", x1=place, x2=place, y1=12, y2=y, stroke=paint("grid")))
        marks.append(label(text, place, y + 17, "middle"))
    return join([*marks, label(name, x.end, y + 34, "end")])
