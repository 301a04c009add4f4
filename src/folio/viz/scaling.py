"""A scaling law as one drawing: what was run, what was foretold, what would be best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from folio.viz.color import paint, resolve
from folio.viz.markup import Markup, tag
from folio.viz.numerals import compact
from folio.viz.svg import COLORS_OF_RUNS, Series, line_chart

Record = Mapping[str, Any]
HALF = 500  # of the drawing's width
STEPS = 24  # places of a smooth line


def figure(record: Record) -> str:
    """Losses against tokens to the left, the best size of each budget to the right."""
    parts = [losses(record), best_sizes(record)]
    whole = tag(
        "svg",
        tag("title", record["title"]),
        tag("rect", width=2 * HALF, height=340, fill=paint("paper")),
        *(
            tag("svg", part, x=HALF * side, y=0, width=HALF, height=340)
            for side, part in enumerate(parts)
        ),
        viewBox=f"0 0 {2 * HALF} 340",
        font_family="system-ui, sans-serif",
    )
    return resolve(whole) + "\n"


def losses(record: Record) -> Markup:
    """The runs of each size as dots, the law through them, and the run foretold."""
    sizes = dict.fromkeys(point["size"] for point in record["points"])
    found = record["prediction"]
    lines = []
    for index, size in enumerate(sizes):
        points = [point for point in record["points"] if point["size"] == size]
        points.sort(key=lambda point: point["tokens"])
        color = f"run-{index % COLORS_OF_RUNS}"
        x = between(points[0]["tokens"], found["tokens"])
        name = compact(points[0]["parameters"])
        y = [law(record, points[0]["parameters"], tokens) for tokens in x]
        lines.append(Series(name, x, y, color))
        lines += [
            Series(name, [p["tokens"]], [p["loss"]], color, raw=True, dots=True)
            for p in points
        ]
    color = f"run-{len(sizes) % COLORS_OF_RUNS}"
    x = [found["tokens"]] * 2
    lines.append(Series("", x, [found["low"], found["high"]], color, raw=True))
    x, y = [found["tokens"]], [found["loss"]]
    lines.append(Series(compact(found["parameters"]), x, y, color, dots=True))
    return line_chart(
        lines,
        width=HALF,
        height=340,
        x_label="tokens, logarithmic",
        y_label="held-out loss; the last one was predicted (bar: 95 %)",
        x_log=True,
        description="loss against tokens for each number of parameters",
    )


def best_sizes(record: Record) -> Markup:
    """The compute-optimal number of parameters, in its 95 % band."""
    rows = record["optimum"]
    line = Series(
        "best",
        [row["flops"] for row in rows],
        [row["parameters"] for row in rows],
        "train",
        low=[row["low"] for row in rows],
        high=[row["high"] for row in rows],
    )
    return line_chart(
        [line],
        width=HALF,
        height=340,
        x_label="operations (6 N D), logarithmic",
        y_label="best number of parameters, 95 % within the band",
        x_log=True,
        y_log=True,
        labels=False,
        description="the best number of parameters against compute",
    )


def law(record: Record, parameters: float, tokens: float) -> float:
    """What the record's law says."""
    found = record["law"]
    size = found["A"] / parameters ** found["a"]
    return found["E"] + size + found["B"] / tokens ** found["b"]


def between(low: float, high: float) -> list[float]:
    """Evenly spread in logarithms, both ends included."""
    return [low * (high / low) ** (i / (STEPS - 1)) for i in range(STEPS)]
