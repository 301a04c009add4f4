"""Figures of the chapter on validation."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist

from shapes import caption, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

PARTS = (
    ("training", 0.8, "train", "the weights", "at every step"),
    ("validation", 0.1, "validation", "your choices", "now and then"),
    ("test", 0.1, "rate", "nothing", "once, at the end"),
)
RESULTS = Path(__file__).resolve().parent.parent / "results"


def split() -> Markup:
    """One text in three parts, and what each of them may change."""
    parts, x, whole = [], 20.0, 380
    for row, (name, share, color, changes, when) in enumerate(PARTS):
        width = whole * share
        place = {"x": x, "y": 20, "width": width - 3, "height": 30, "rx": 3}
        parts.append(tag("rect", fill=paint(color), **place))
        x += width
        y = 96 + 24 * row
        parts += [
            tag("rect", x=20, y=y - 11, width=12, height=12, fill=paint(color)),
            label(name, 40, y, color="ink", font_weight=600),
            label(changes, 160, y, color="ink"),
            label(when, 280, y, color="ink"),
        ]
    parts += [caption("it changes", 192, 74), caption("it is read", 310, 74)]
    return picture(420, 156, *parts, narrow=True)


def best_of() -> Markup:
    """How much too good the best of many equal checkpoints looks."""
    counts = [1, 2, 3, 5, 10, 20, 50, 100]
    lines = [
        Series(
            f"error {noise:g}",
            counts,
            [round(noise * largest(count), 3) for count in counts],
            color=color,
            dots=True,
        )
        for noise, color in ((0.02, "validation"), (0.01, "train"), (0.005, "rate"))
    ]
    return line_chart(
        lines,
        width=560,
        height=220,
        x_log=True,
        x_label="checkpoints to choose from",
        y_label="nats too low",
    )


def largest(count: int, pieces: int = 4000) -> float:
    """The mean of the largest of `count` standard normal numbers, by quantiles."""
    normal = NormalDist()
    places = ((i + 0.5) / pieces for i in range(pieces))
    return sum(normal.inv_cdf(place ** (1 / count)) for place in places) / pieces


def perplexities() -> Markup:
    """The perplexity of a run on its batches and on the whole held-out text."""
    recorded = json.loads((RESULTS / "quality_by_steps.json").read_text("utf-8"))
    rows = [row for row in recorded["rows"] if row["step"] > 1]
    steps = [row["step"] for row in rows]
    held_out = [row["val_perplexity"] for row in rows]
    lines = [Series("held out", steps, held_out, color="validation", dots=True)]
    return line_chart(lines, width=560, height=210, y_label="perplexity")
