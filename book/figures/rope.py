"""Figures of the chapter on rotary positions."""

from __future__ import annotations

import math

import torch
from shapes import KEY, QUERY, RESULT, picture

from folio.model.config import ModelConfig
from folio.model.options import RopeScaling
from folio.model.positions import rotary_frequencies
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

STEP = 30  # degrees per place, in the example by hand
QUERY_ARROW, KEY_ARROW = (2.0, 0.0), (0.0, 1.0)
PAIRS_OF_PLACES = ((5, 2), (12, 9), (5, 4))  # of query and key


def turned(vector: tuple[float, float], degrees: float) -> tuple[float, float]:
    """
    >>> [round(x, 2) for x in turned((1.0, 0.0), 90)]
    [0.0, 1.0]
    """
    (a, b), angle = vector, math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return a * cos - b * sin, b * cos + a * sin


def by_hand() -> Markup:
    """Three pairs of places: the arrows turn, what is between them doesn't."""
    parts = []
    for index, (query, key) in enumerate(PAIRS_OF_PLACES):
        parts += dial(92 + 182 * index, 116, query, key)
    return picture(550, 250, *parts)


def dial(x: float, y: float, query: int, key: int) -> list[Markup]:
    """A dial with the query's arrow and the key's, and their score below."""
    unit = 38
    q = turned(QUERY_ARROW, STEP * query)
    k = turned(KEY_ARROW, STEP * key)
    score = q[0] * k[0] + q[1] * k[1]
    score += 0.0 if abs(score) > 1e-9 else -score
    marks = []
    for degrees in range(0, 360, STEP):
        dx, dy = turned((1.0, 0.0), degrees)
        near, far = 2 * unit, 2 * unit + 5
        ends = {"x1": x + near * dx, "y1": y - near * dy}
        ends |= {"x2": x + far * dx, "y2": y - far * dy}
        marks.append(tag("line", stroke=paint("rule"), **ends))
    return [
        tag("circle", cx=x, cy=y, r=2 * unit, fill="none", stroke=paint("grid")),
        *marks,
        hand(x, y, unit, q, QUERY),
        hand(x, y, unit, k, KEY),
        label(
            f"{query - key} apart",
            x,
            22,
            "middle",
            color="ink",
            font_weight=600,
        ),
        label(f"query at {query}", x - 6, y + 100, "end", color=QUERY),
        label(f"key at {key}", x + 6, y + 100, color=KEY),
        label(f"score {score:.1f}", x, y + 122, "middle", color=RESULT),
    ]


def hand(x: float, y: float, unit: float, vector, color: str) -> Markup:
    """An arrow from the middle of a dial."""
    ends = {"x1": x, "y1": y, "x2": x + unit * vector[0], "y2": y - unit * vector[1]}
    return tag(
        "g",
        tag("line", stroke=paint(color), stroke_width=2.8, **ends),
        tag("circle", cx=ends["x2"], cy=ends["y2"], r=4, fill=paint(color)),
    )


def clocks(width: int = 16, distances: int = 64) -> Markup:
    """The cosine of each pair's angle against the distance: fast above, slow below."""
    frequencies = rotary_frequencies(config(width))
    table = (torch.arange(distances) * frequencies[:, None]).cos().tolist()
    wide, high, left, top = 7.4, 17.0, 74, 30
    cells = [
        tag(
            "rect",
            x=left + wide * j,
            y=top + high * i,
            width=wide,
            height=high - 2,
            fill=paint("train" if value > 0 else "validation"),
            fill_opacity=f"{abs(value):.2f}",
        )
        for i, row in enumerate(table)
        for j, value in enumerate(row)
    ]
    names = [
        label(f"pair {i}", left - 8, top + high * i + 12, "end")
        for i in range(len(table))
    ]
    bottom = top + high * len(table)
    marks = [
        label(str(j), left + wide * (j + 0.5), bottom + 16, "middle", font_size=11)
        for j in range(0, distances, 8)
    ]
    return picture(
        566,
        int(bottom) + 40,
        *names,
        *marks,
        label("distance between query and key", left + wide * distances, 18, "end"),
        tag("g", *cells, shape_rendering="crispEdges"),
    )


def layouts() -> Markup:
    """Which numbers of a head 8 wide make a pair, in both layouts."""
    cell, left = 44, 132
    parts = []
    for y, name, pair_of in (
        (34, "halves", lambda i: i % 4),
        (134, "interleaved", lambda i: i // 2),
    ):
        parts.append(label(name, left - 14, y + 22, "end", font_weight=600))
        for i in range(8):
            color = f"run-{pair_of(i)}"
            x = left + cell * i
            place = {"x": x, "y": y, "width": cell - 4, "height": 34, "rx": 4}
            parts.append(
                tag(
                    "rect",
                    fill=paint(color),
                    fill_opacity=0.22,
                    stroke=paint(color),
                    **place,
                )
            )
            middle = x + cell / 2 - 2
            parts.append(label(f"x{i}", middle, y + 22, "middle", color="ink"))
        for pair in range(4):
            ends = [i for i in range(8) if pair_of(i) == pair]
            first, second = (left + cell * i + cell / 2 - 2 for i in ends)
            deep = y + 36 + 8 * (pair + 1 if name == "halves" else 1)
            parts.append(
                tag(
                    "path",
                    d=f"M{first} {y + 36}V{deep}H{second}V{y + 36}",
                    fill="none",
                    stroke=paint(f"run-{pair}"),
                    stroke_width=1.8,
                )
            )
    return picture(500, 190, *parts, narrow=True)


def scaling(width: int = 64, trained: int = 2_048, factor: float = 4.0) -> Markup:
    """By how much each kind of scaling slows each pair."""
    plain = rotary_frequencies(config(width))
    kinds = {
        "linear": RopeScaling("linear", factor),
        "NTK": RopeScaling("ntk", factor),
        "YaRN": RopeScaling("yarn", factor, trained),
        "Llama 3": RopeScaling("llama3", factor, trained),
    }
    lines = [
        Series(
            name,
            range(width // 2),
            (plain / rotary_frequencies(config(width, kind))).tolist(),
            color=f"run-{index + 1}",
        )
        for index, (name, kind) in enumerate(kinds.items())
    ]
    return line_chart(
        lines,
        width=620,
        height=240,
        x_label="pair, from the fastest to the slowest",
        y_label="slowed by",
    )


def config(width: int, scaling: RopeScaling | None = None) -> ModelConfig:
    """A model with one head of `width` numbers."""
    return ModelConfig(1, d_model=width, n_heads=1, rope_scaling=scaling)
