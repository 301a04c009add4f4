"""Figures of the chapter on attention by hand."""

from __future__ import annotations

import math

from shapes import KEY, QUERY, RESULT, VALUE, arrow, caption, grid, picture

from folio.scratch.attention import attend, attention_weights
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

WORDS = ("the", "cat", "sat")
QUERIES = [[1.0, 0.0], [0.0, 2.0], [2.0, 1.0]]
KEYS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
VALUES = [[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]]


def by_hand() -> Markup:
    """From queries, keys and values of three words to what each of them gets."""
    weights = attention_weights(QUERIES, KEYS)
    square = [row + [0.0] * (3 - len(row)) for row in weights]
    shown = [
        [f"{w:.2f}" if j <= i else "–" for j, w in enumerate(row)]
        for i, row in enumerate(square)
    ]
    mixed = attend(QUERIES, KEYS, VALUES)
    top, second = 50, 196
    words = [label(word, 46, top + 19 + 28 * i, "end") for i, word in enumerate(WORDS)]
    again = [label(w, 46, second + 19 + 28 * i, "end") for i, w in enumerate(WORDS)]
    return picture(
        470,
        300,
        *words,
        *again,
        *part("queries", 56, top, whole(QUERIES), QUERY),
        *part("keys", 186, top, whole(KEYS), KEY),
        *part("values", 316, top, whole(VALUES), VALUE),
        *part("weights", 56, second, shown, RESULT, square),
        *part("results", 316, second, decimals(mixed), VALUE),
        label("×", 252, second + 47, "middle", font_size=17),
        arrow((276, second + 42), (306, second + 42)),
        arrow((100, top + 94), (110, second - 24)),
        arrow((230, top + 94), (134, second - 24)),
        arrow((360, top + 94), (360, second - 24)),
        narrow=True,
    )


def part(
    name: str,
    x: float,
    y: float,
    rows: list[list[str]],
    color: str,
    shares: list[list[float]] | None = None,
) -> list[Markup]:
    """A named grid of numbers."""
    middle = x + 22 * len(rows[0])
    return [
        caption(name, middle, y - 10, color),
        grid(x, y, rows, color=color, shares=shares),
    ]


def whole(rows: list[list[float]]) -> list[list[str]]:
    return [[f"{value:g}" for value in row] for row in rows]


def decimals(rows: list[list[float]]) -> list[list[str]]:
    return [[f"{value:.2f}" for value in row] for row in rows]


def arrows_of_keys() -> Markup:
    """The query of "sat" among the three keys, as arrows in the plane."""
    unit, left, low = 112, 60, 154

    def ray(vector: list[float], color: str, name: str, dx: float, dy: float):
        x, y = left + unit * vector[0], low - unit * vector[1]
        line = {"x1": left, "y1": low, "x2": x, "y2": y}
        return tag(
            "g",
            tag("line", stroke=paint(color), stroke_width=2.6, **line),
            tag("circle", cx=x, cy=y, r=4, fill=paint(color)),
            label(name, x + dx, y + dy, color=color, font_weight=600),
        )

    axes = [
        tag("line", x1=left, y1=low, x2=left + 270, y2=low, stroke=paint("rule")),
        tag("line", x1=left, y1=low, x2=left, y2=24, stroke=paint("rule")),
    ]
    scores = [
        label(
            f"{word}: {dot(QUERIES[2], key):g} / √2 = "
            f"{dot(QUERIES[2], key) / math.sqrt(2):.2f}",
            370,
            60 + 24 * i,
            color="ink",
        )
        for i, (word, key) in enumerate(zip(WORDS, KEYS, strict=True))
    ]
    return picture(
        540,
        184,
        *axes,
        ray(QUERIES[2], QUERY, "query of sat", -36, -12),
        ray(KEYS[0], KEY, "key of the", -26, 20),
        ray(KEYS[1], KEY, "key of cat", -30, -12),
        ray(KEYS[2], KEY, "key of sat", -24, -12),
        label("scores", 370, 34, font_weight=600, color=RESULT),
        *scores,
        narrow=True,
    )


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def saturation() -> Markup:
    """The largest of 8 weights against the width, with and without the root."""
    import numpy as np

    rng = np.random.default_rng(0)
    widths = [2, 4, 8, 16, 32, 64, 128, 256, 512]
    plain, scaled = [], []
    for width in widths:
        queries = rng.normal(size=(400, 1, width))
        scores = (queries * rng.normal(size=(400, 8, width))).sum(-1)
        plain.append(largest(scores).mean())
        scaled.append(largest(scores / math.sqrt(width)).mean())
    lines = [
        Series("not scaled", widths, plain, color="validation", dots=True),
        Series("scaled", widths, scaled, color="train", dots=True),
    ]
    return line_chart(
        lines,
        width=560,
        height=260,
        x_label="width of a head, K",
        y_label="largest weight",
        x_log=True,
    )


def largest(scores):
    """The largest weight of each row."""
    import numpy as np

    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).max(-1)
