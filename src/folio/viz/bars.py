"""Horizontal bars with intervals, in groups: the same measure of several models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from folio.viz.color import paint
from folio.viz.markup import Markup, join, tag
from folio.viz.scale import Scale, tick_labels
from folio.viz.svg import CHARACTER, FONT, label

BAR = 11  # how thick one is
GAP = 12  # between two groups


@dataclass(frozen=True)
class Bar:
    """A value, and between which two the true one lies, where that is known."""

    value: float
    color: str
    low: float | None = None
    high: float | None = None


def interval_bars(
    groups: Sequence[tuple[str, Sequence[Bar]]],
    *,
    most: float | None = None,
    width: int = 440,
    description: str = "",
) -> Markup:
    """Groups of bars from zero to `most`, each with its value behind.

    A value below zero has a bar of no length, and its number says what it is.
    """
    left = 12 + max(len(name) for name, _ in groups) * CHARACTER
    bars = [bar for _, own in groups for bar in own]
    ends = [bar.value if bar.high is None else bar.high for bar in bars]
    x = Scale(0.0, most or max([*ends, 1e-9]), left, width - 44.0)
    body, y = [], 6.0
    for name, own in groups:
        middle = y + BAR * len(own) / 2
        body.append(label(name, left - 8, middle + 4, anchor="end", color="ink"))
        for place, bar in enumerate(own):
            body.append(_bar(bar, x, y + BAR * place))
        y += BAR * len(own) + GAP
    height = y + 16
    return tag(
        "svg",
        tag("title", description) if description else None,
        _grid(x, y - 4),
        *body,
        class_="chart-svg",
        viewBox=f"0 0 {width} {height:g}",
        role="img",
        font_size=FONT,
    )


def _bar(bar: Bar, x: Scale, y: float) -> Markup:
    end, middle = float(x(max(bar.value, 0.0))), y + BAR / 2 - 0.5
    length = end - x.start
    parts = [
        tag(
            "rect",
            x=float(x.start),
            y=y,
            width=length,
            height=BAR - 1.0,
            fill=paint(bar.color),
            fill_opacity=0.75,  # so that the interval is seen on it, in the dark too
        )
    ]
    if bar.low is not None and bar.high is not None:
        low, high = (float(x(max(0.0, edge))) for edge in (bar.low, bar.high))
        stroke = {"stroke": paint("ink"), "stroke_width": 1.2, "stroke_opacity": 0.75}
        parts.append(tag("line", x1=low, x2=high, y1=middle, y2=middle, **stroke))
        parts += [
            tag("line", x1=edge, x2=edge, y1=middle - 3, y2=middle + 3, **stroke)
            for edge in (low, high)
        ]
        end = max(end, high)
    text = label(f"{bar.value:.2f}", end + 6, middle + 4, color="ink", font_size=10.5)
    return join([*parts, text])


def _grid(x: Scale, bottom: float) -> Markup:
    ticks = x.ticks(4)
    marks = []
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        place = float(x(tick))
        marks.append(
            tag("line", x1=place, x2=place, y1=2, y2=bottom, stroke=paint("grid"))
        )
        marks.append(label(text, place, bottom + 15, anchor="middle"))
    return join(marks)
