"""Figures of the chapter on windows, sinks and the rolling buffer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from cache import square
from shapes import KEY, QUERY, RESULT, caption, picture

from folio.infer.cache import Ring
from folio.model.mask import visible
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

BENCH = Path(__file__).resolve().parents[2] / "bench" / "results"
RESULTS = Path(__file__).resolve().parents[1] / "results"
SINK = RESULT
EVEN = sum(1 / (i + 1) for i in range(32, 64)) / 32  # if all were looked at alike


def masks(length: int = 12, window: int = 4, sinks: int = 1) -> Markup:
    """Who sees whom: all before, a window, a window and sinks."""
    places = torch.arange(length)[None]
    cell, parts = 13.0, []
    for index, (name, rule) in enumerate(
        (
            ("all before", (None, 0)),
            (f"window of {window}", (window, 0)),
            (f"window of {window}, {sinks} sink", (window, sinks)),
        )
    ):
        left = 20 + 224 * index
        parts.append(caption(name, left + cell * length / 2, 16))
        seen = visible(places, places, *rule)[0].tolist()
        for i, row in enumerate(seen):
            for j, one in enumerate(row):
                sink = rule[1] and j < rule[1]
                place = {"x": left + cell * j, "y": 26 + cell * i}
                place |= {"width": cell, "height": cell}
                color = paint(SINK if sink else QUERY) if one else "none"
                parts.append(
                    tag(
                        "rect",
                        fill=color,
                        fill_opacity="0.7",
                        stroke=paint("rule"),
                        **place,
                    )
                )
    return picture(656, 190, *parts)


def field(layers: int = 3, window: int = 3, length: int = 10) -> Markup:
    """How far the last token sees, layer by layer, if each sees `window` tokens."""
    step, rise, left, low = 46, 54, 110, 196
    parts, reach = [], {length - 1}
    for layer in range(layers, 0, -1):
        below = {j for i in reach for j in range(max(0, i - window + 1), i + 1)}
        for i in reach:
            for j in range(max(0, i - window + 1), i + 1):
                ends = {
                    "x1": left + step * i,
                    "y1": low - rise * layer + 9,
                    "x2": left + step * j,
                    "y2": low - rise * (layer - 1) - 9,
                }
                parts.append(tag("line", stroke=paint(QUERY), stroke_width=1.2, **ends))
        parts += dots(layer, reach, length, step, rise, left, low)
        reach = below
    parts += dots(0, reach, length, step, rise, left, low)
    names = ["embeddings", *(f"after layer {n}" for n in range(1, layers + 1))]
    texts = [
        label(name, left - 24, low - rise * i + 4, "end", font_size=11.5)
        for i, name in enumerate(names)
    ]
    return picture(556, 218, *texts, *parts, narrow=True)


def dots(layer, lit, length, step, rise, left, low) -> list[Markup]:
    return [
        tag(
            "circle",
            cx=left + step * i,
            cy=low - rise * layer,
            r=8,
            fill=paint(QUERY if i in lit else "surface"),
            stroke=paint(QUERY if i in lit else "rule"),
        )
        for i in range(length)
    ]


def growing_and_rolling(length: int = 9, window: int = 4, sinks: int = 1) -> Markup:
    """The same text in two caches: one slot per token, and a ring behind a sink."""
    cell, parts = 27, []
    left, right = 64, 64 + cell * length + 62
    ring = Ring(batch=1, window=window, sinks=sinks)
    parts.append(caption("growing: slot = position", left + cell * length / 2, 18))
    parts.append(
        caption("rolling: a sink and a ring", right + cell * (window + sinks) / 2, 18)
    )
    held: list[int | None] = [None] * (sinks + window)
    for step in range(length):
        y = 30 + cell * step
        parts.append(label(f"token {step}", 54, y + 17, "end", font_size=11.5))
        for place in range(length):
            shown = place if place <= step else None
            parts.append(slot(left + cell * place, y, shown, place == step, False))
        held[ring.slots(torch.tensor([[step]])).item()] = step
        for place, position in enumerate(held):
            new, sink = position == step, place < sinks
            parts.append(slot(right + cell * place, y, position, new, sink))
    return picture(right + cell * (window + sinks) + 22, 286, *parts)


def slot(x: float, y: float, position: int | None, new: bool, sink: bool) -> Markup:
    """A place in a cache, and the position that lies in it."""
    if position is None:
        place = {"x": x, "y": y, "width": 23, "height": 23, "rx": 3}
        return tag("rect", fill="none", stroke=paint("rule"), **place)
    color = "paper" if new else "ink"
    return tag(
        "g",
        square(x, y, SINK if sink else KEY, new, 23),
        label(str(position), x + 11.5, y + 16, "middle", color=color, font_size=11.5),
    )


def shares() -> Markup:
    """Attention on the first token by layer and head, as the benchmark measured it."""
    rows = json.loads((BENCH / "streaming.json").read_text(encoding="utf-8"))["rows"]
    (found,) = [row for row in rows if row["name"] == "attention to the first token"]
    table = found["by_layer_and_head"]
    wide, high, left = 76, 34, 82
    parts = [
        caption(f"head {head + 1}", left + wide * head + wide / 2, 18)
        for head in range(len(table[0]))
    ]
    for i, row in enumerate(table):
        y = 28 + high * i
        parts.append(label(f"layer {i + 1}", left - 10, y + 21, "end", color="ink"))
        for head, share in enumerate(row):
            place = {"x": left + wide * head, "y": y, "width": wide, "height": high}
            opacity = f"{0.06 + 0.85 * share:.2f}"
            parts.append(
                tag(
                    "rect",
                    fill=paint(SINK),
                    fill_opacity=opacity,
                    stroke=paint("rule"),
                    **place,
                )
            )
            ink = "paper" if share > 0.6 else "ink"
            middle = left + wide * head + wide / 2
            parts.append(label(f"{share:.1%}", middle, y + 22, "middle", color=ink))
    return picture(left + wide * len(table[0]) + 14, 140, *parts, narrow=True)


def long_text() -> Markup:
    """Perplexity of text far past the trained length, as the benchmark found it."""
    rows = json.loads((BENCH / "streaming.json").read_text(encoding="utf-8"))["rows"]
    found = {row["name"]: row for row in rows}
    lines = []
    for name, shown, color in (
        ("dense", "all keys", "gradient"),
        ("window", "window, no sinks", "validation"),
        ("window + sinks", "window and sinks", "train"),
        ("re-read", "read afresh", "rate"),
    ):
        row = found[name]
        x, y = thirds(row["positions"], row["perplexities"])
        dashed = name == "re-read"
        lines.append(Series(shown, x, y, color=color, dashed=dashed))
    return line_chart(
        lines,
        width=700,
        height=320,
        x_label="position in the text, tokens",
        y_label="perplexity",
        x_log=True,
        y_log=True,
    )


def thirds(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """Means of three neighbors: single spans are noisy where they are short."""
    places = range(1, len(x) - 1, 2)
    means = [math.exp(sum(map(math.log, y[i - 1 : i + 2])) / 3) for i in places]
    return [x[i] for i in places], means


def growth() -> Markup:
    """How the first token's share grows in training, in the first layer."""
    seeds = json.loads((RESULTS / "streams.json").read_text(encoding="utf-8"))["seeds"]
    steps = [row["step"] for row in seeds[0]["growth"]]
    shares = [[row["share"] for row in seed["growth"]] for seed in seeds]
    mean = [sum(at) / len(at) for at in zip(*shares, strict=True)]
    low, high = ([end(at) for at in zip(*shares, strict=True)] for end in (min, max))
    even = Series("even share", steps, [EVEN] * len(steps), color="other", dashed=True)
    first = Series("first token", steps, mean, color=SINK, low=low, high=high)
    return line_chart(
        [first, even],
        width=600,
        height=240,
        y_label="share of attention",
    )
