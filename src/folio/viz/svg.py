"""Charts as SVG: pure functions from data to a string, the same string every time.

Colors are named by meaning (see `color.py`). A drawing has no title and no frame of
its own: the page or the book gives it a caption. `color.resolve` makes it stand alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from folio.viz.color import RUNS, paint
from folio.viz.markup import Markup, join, number, tag
from folio.viz.numerals import digits, plain
from folio.viz.scale import Scale, fit, smooth, subsample, tick_labels

FONT = 12
COLORS_OF_RUNS = len(RUNS)
CHARACTER = 6.6  # width of an average character at that size, rather too wide
BOLD = 7.5


@dataclass(frozen=True)
class Series:
    """One line: `x` and `y` of equal length, a name and a color's meaning.

    `raw` draws it thin and pale, without a label (the unsmoothed measurements);
    `low` and `high` put a band behind it; `dots` marks every point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = "train"
    raw: bool = False
    dots: bool = False
    dashed: bool = False
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def thinned(self, limit: int) -> Series:
        """At most `limit` points; the band is thinned at the same places."""
        if len(self.y) <= limit:
            return self
        keep = subsample(self.y, limit)
        names = [n for n in ("x", "y", "low", "high") if getattr(self, n) is not None]
        return replace(self, **{n: np.asarray(getattr(self, n))[keep] for n in names})


def smoothed(series: Series, share: float = 0.02) -> list[Series]:
    """The measurements, pale, and the smoothed line over them.

    The line looks at `share` of the points on either side; with few points it is drawn
    through them as they are. A smooth line needs no more than 600 places.
    """
    half = round(len(series.y) * share)
    if half < 2:
        return [replace(series, dots=len(series.y) <= 40)]
    count = len(series.y)
    at = np.unique(np.linspace(0, count - 1, min(count, 600)).round().astype(int))
    line = smooth(series.x, series.y, half, at)
    return [
        replace(series, raw=True),
        replace(series, x=np.asarray(series.x)[at], y=line),
    ]


def line_chart(
    series: Sequence[Series],
    *,
    width: int = 920,
    height: int = 360,
    x_label: str = "step",
    y_label: str = "",
    x_log: bool = False,
    y_log: bool = False,
    x_range: tuple[float, float] | None = None,
    labels: bool = True,
    description: str = "",
) -> Markup:
    """Lines over common axes, each labeled at its end with its last value.

    The horizontal axis holds all of `x`, or `x_range`, so that charts can be aligned.
    `description` is what a screen reader says. The hidden `cursor` group and the
    `data-` attributes serve the page's script; elsewhere they do nothing.
    """
    series = [line.thinned(2 * width) for line in series if len(line.y)]
    named = [line for line in series if not line.raw] or series
    labeled = named if labels else []
    longest = int(0.33 * width / BOLD)  # so much of the width may go to labels
    ends = [_end_label(line, longest) for line in labeled]
    margin = max([22, *(14 + len(end) * BOLD for end in ends)])
    y_values = _together([v for s in series for v in (s.y, s.low, s.high)])
    y = fit(y_values, height - 40, 26, y_log)
    ticks = tick_labels(y.ticks(max(3, height // 60)))
    left = 14 + max(map(len, ticks)) * CHARACTER
    x_values = _together([line.x for line in series]) if x_range is None else x_range
    x = fit(x_values, left, width - margin, x_log, pad=0)
    body = [_y_axis(y, x, height // 60), _x_axis(x, y, width // 130)]
    body.append(_names(x_label, y_label, x, y))
    body += [_band(line, x, y) for line in series if line.low is not None]
    body += [_line(line, x, y) for line in series]
    body += [*_end_labels(labeled, ends, x, y), _cursor(named, y)]
    return tag(
        "svg",
        tag("title", description) if description else None,
        *body,
        class_="chart-svg",
        viewBox=f"0 0 {width} {height}",
        role="img",
        font_size=FONT,
        data_x=f"{x.low:.10g} {x.high:.10g} {number(x.start)} {number(x.end)}",
        data_y=f"{y.low:.10g} {y.high:.10g} {number(y.start)} {number(y.end)}",
        data_log=f"{int(x_log)} {int(y_log)}",
    )


def _together(columns) -> np.ndarray:
    columns = [np.asarray(c, dtype=float) for c in columns if c is not None]
    return np.concatenate(columns) if columns else np.array([])


def _y_axis(y: Scale, x: Scale, count: int) -> Markup:
    """Horizontal rules with their values to the left."""
    ticks = y.ticks(max(3, count))
    places = zip(ticks, tick_labels(ticks), strict=True)
    return tag(
        "g",
        *(
            join(
                [
                    _rule(x.start, y(tick), x.end, y(tick), "grid"),
                    label(text, x.start - 8, y(tick) + 4, anchor="end"),
                ]
            )
            for tick, text in places
        ),
    )


def _x_axis(x: Scale, y: Scale, count: int) -> Markup:
    """The base line, short marks, and values below."""
    ticks = x.ticks(max(2, count))
    marks = [_rule(x.start, y.start, x.end, y.start, "rule")]
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        marks.append(_rule(x(tick), y.start, x(tick), y.start + 5, "rule"))
        marks.append(label(text, x(tick), y.start + 19, anchor="middle"))
    return tag("g", *marks)


def _names(x_label: str, y_label: str, x: Scale, y: Scale) -> Markup:
    """What is measured: above the values and below the right end."""
    return join(
        [
            label(y_label, 4, 13) if y_label else None,
            label(x_label, x.end, y.start + 36, anchor="end"),
        ]
    )


def _rule(x1: float, y1: float, x2: float, y2: float, color: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=paint(color))


def label(
    text: str, x: float, y: float, anchor="start", color="quiet", **more
) -> Markup:
    """A piece of text; `anchor` is start, middle or end."""
    return tag(
        "text",
        text,
        x=float(x),
        y=float(y),
        text_anchor=anchor,
        fill=paint(color),
        **more,
    )


def path_through(x: np.ndarray, y: np.ndarray) -> str:
    """The line through all points, lifted over those that are not finite.

    >>> path_through([0, 1, 2, 3], [5, 6, float("nan"), 7])
    'M0 5L1 6M3 7'
    """
    pen, path = "M", []
    for right, down in zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True):
        if math.isfinite(right) and math.isfinite(down):
            path.append(f"{pen}{_short(right)} {_short(down)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)


def _short(value: float) -> str:
    """A tenth of a pixel is enough for curves.

    >>> _short(12.04), _short(3.0)
    ('12', '3')
    """
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _line(line: Series, x: Scale, y: Scale) -> Markup:
    across, down = x(np.asarray(line.x, float)), y(np.asarray(line.y, float))
    path = tag(
        "path",
        d=path_through(across, down),
        fill="none",
        stroke=paint(line.color),
        stroke_width=1.0 if line.raw else 2.2,
        stroke_opacity=0.35 if line.raw else None,
        stroke_dasharray="6 4" if line.dashed else None,
        stroke_linejoin="round",
        stroke_linecap="round",
    )
    places = np.stack([across, down], axis=-1)
    places = places[np.isfinite(places).all(axis=-1)]
    if not line.dots and len(places) > 1:
        return path
    dots = [_dot(right, down, line.color) for right, down in places.tolist()]
    return join([path, *dots])


def _dot(x: float, y: float, color: str) -> Markup:
    return tag("circle", cx=float(x), cy=float(y), r=2.6, fill=paint(color))


def _band(line: Series, x: Scale, y: Scale) -> Markup:
    """The area between `low` and `high`."""
    across = np.asarray(x(np.asarray(line.x, float)))
    low, high = (y(np.asarray(edge, float)) for edge in (line.low, line.high))
    good = np.isfinite(across) & np.isfinite(low) & np.isfinite(high)
    there = np.concatenate([across[good], across[good][::-1]])
    edge = np.concatenate([high[good], low[good][::-1]])
    outline = path_through(there, edge) + "Z" if good.any() else ""
    return tag("path", d=outline, fill=paint(line.color), fill_opacity=0.18)


def _last(line: Series) -> tuple[float, float] | None:
    pairs = zip(np.asarray(line.x).tolist(), np.asarray(line.y).tolist(), strict=True)
    finite = [pair for pair in pairs if math.isfinite(pair[1])]
    return finite[-1] if finite else None


def _end_label(line: Series, longest: int) -> str:
    """Name and last value; a long name loses its middle."""
    last = _last(line)
    value = f" {digits(last[1])}" if last else ""
    return shortened(line.name, max(4, longest - len(value))) + value


def shortened(text: str, longest: int) -> str:
    """At most `longest` characters: names of runs differ mostly at their ends.

    >>> shortened("tales-learned-positions", 12)
    'tales-…tions'
    """
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 2
    return f"{text[: longest - 1 - tail]}…{text[-tail:]}"


def _end_labels(
    labeled: list[Series], texts: list[str], x: Scale, y: Scale
) -> list[Markup]:
    """Names at the lines' ends, pushed apart where they would overlap."""
    ends = [
        (line, text, _last(line)) for line, text in zip(labeled, texts, strict=True)
    ]
    ends = [(line, text, float(y(last[1]))) for line, text, last in ends if last]
    wanted = [place if math.isfinite(place) else y.start for _, _, place in ends]
    places = spread(wanted, gap=FONT + 4, low=y.end, high=y.start)
    return [
        label(text, x.end + 8, place + 4, color=line.color, font_weight=600)
        for (line, text, _), place in zip(ends, places, strict=True)
    ]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near to those wanted as a distance of `gap` and the limits allow.

    >>> spread([10, 11, 50], gap=6, low=0, high=100)
    [10, 16, 50]
    >>> spread([99, 98], gap=6, low=0, high=100)
    [100, 94]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = list(wanted)
    for before, after in zip([None, *order], order, strict=False):
        least = low if before is None else places[before] + gap
        places[after] = max(places[after], least)
    for after, before in zip([None, *order[::-1]], order[::-1], strict=False):
        most = high if after is None else places[after] - gap
        places[before] = min(places[before], most)
    return places


def _cursor(lines: Sequence[Series], y: Scale) -> Markup:
    """A vertical rule and one dot per line that the page's script moves."""
    rule = tag("line", x1=0, x2=0, y1=y.end, y2=y.start, stroke=paint("quiet"))
    dots = [
        tag(
            "circle",
            r=4,
            fill=paint(line.color),
            stroke=paint("paper"),
            stroke_width=1.5,
        )
        for line in lines
    ]
    return tag("g", rule, *dots, class_="cursor", visibility="hidden")


def bar_chart(
    names: Sequence[str],
    values: Sequence[float],
    *,
    width: int = 440,
    color: str = "other",
    unit: str = "",
    description: str = "",
) -> Markup:
    """Horizontal bars from zero, each with its name before and its value behind."""
    height, row = len(names) * 26 + 8, 26
    left = 12 + max((len(name) for name in names), default=0) * CHARACTER
    texts = [f"{plain(value)}{unit}" for value in values]
    right = 12 + max((len(text) for text in texts), default=0) * CHARACTER
    longest = max([abs(value) for value in values], default=0) or 1
    body = []
    for index, (name, value, text) in enumerate(zip(names, values, texts, strict=True)):
        top = 4 + index * row
        length = (width - left - right) * abs(value) / longest
        place = {"x": left, "y": top + 3, "width": float(length), "height": row - 8}
        body.append(label(name, left - 8, top + 17, anchor="end"))
        body.append(tag("rect", fill=paint(color), rx=2, **place))
        body.append(label(text, left + length + 7, top + 17, color="ink"))
    return tag(
        "svg",
        tag("title", description) if description else None,
        *body,
        class_="chart-svg",
        viewBox=f"0 0 {width} {height}",
        role="img",
        font_size=FONT,
    )
