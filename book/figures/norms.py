"""Figures of the chapter on RMSNorm."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from shapes import arrow, caption, grid, picture

from folio.model.norm import layer_norm, rms_norm
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

RMS, LAYER = "train", "validation"
VECTORS = {
    "as it is": (1.0, 1.0, 7.0, 7.0),
    "doubled": (2.0, 2.0, 14.0, 14.0),
    "10 added": (11.0, 11.0, 17.0, 17.0),
}
RESULTS = Path(__file__).resolve().parent.parent / "results"


def by_hand() -> Markup:
    """Three vectors, and what each norm makes of them."""
    parts = [
        caption("what comes in", 180, 18),
        caption("RMSNorm", 366, 18, RMS),
        caption("LayerNorm", 552, 18, LAYER),
    ]
    for row, (name, numbers) in enumerate(VECTORS.items()):
        y, x, ones = 30 + 40 * row, torch.tensor(numbers), torch.ones(4)
        normed = rms_norm(x, ones, eps=0.0), layer_norm(x, ones, eps=0.0)
        shown = [[f"{n:.2f}" for n in each.tolist()] for each in normed]
        cell = {"cell": (42, 28)}
        parts += [
            label(name, 86, y + 18, "end", "ink"),
            grid(96, y, [[f"{n:g}" for n in numbers]], color="other", **cell),
            grid(282, y, [shown[0]], color=RMS, **cell),
            grid(468, y, [shown[1]], color=LAYER, **cell),
        ]
    return picture(644, 146, *parts)


def plane() -> Markup:
    """Vectors of two numbers: one norm puts them onto a circle, one onto two points."""
    unit, left, low = 52, 150, 150
    radius = math.sqrt(2) * unit
    points = [(2.3, 1.2), (1.6, -0.6), (0.7, 2.0), (-1.2, 1.9)]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + unit * x, low - unit * y

    def dot(x: float, y: float, color: str, size: float = 4.5) -> Markup:
        at = place(x, y)
        return tag("circle", cx=at[0], cy=at[1], r=size, fill=paint(color))

    def half(middle: int, norm, color: str, title: str) -> list[Markup]:
        nonlocal left
        left = middle
        axes = [
            tag("line", x1=middle - 130, y1=low, x2=middle + 130, y2=low),
            tag("line", x1=middle, y1=low - 122, x2=middle, y2=low + 110),
        ]
        parts = [tag("g", *axes, stroke=paint("rule"))]
        circle = {"cx": middle, "cy": low, "r": radius, "stroke": paint(color)}
        parts.append(tag("circle", fill="none", stroke_dasharray="4 4", **circle))
        for point in points:
            x = torch.tensor(point)
            end = norm(x, torch.ones(2), eps=0.0).tolist()
            parts.append(arrow(place(*point), place(*end)))
            parts += [dot(*point, "other"), dot(*end, color)]
        return [*parts, caption(title, middle, 18, color)]

    parts = half(150, rms_norm, RMS, "RMSNorm")
    parts += half(450, layer_norm, LAYER, "LayerNorm")
    return picture(600, 268, *parts)


def gradients() -> Markup:
    """The norm of each part's gradient, from the recorded runs."""
    recorded = json.loads((RESULTS / "norms.json").read_text(encoding="utf-8"))
    lines = []
    for name, shown, color in (
        ("rmsnorm", "RMSNorm", RMS),
        ("layernorm", "LayerNorm", LAYER),
    ):
        for key, when, dashed in (
            ("first_norms", "first 10", True),
            ("last_norms", "last 100", False),
        ):
            values = recorded[name][key][1:]  # without the embedding
            layers = list(range(1, len(values) + 1))
            looks = {"color": color, "dashed": dashed, "dots": True}
            lines.append(Series(f"{shown}, {when}", layers, values, **looks))
    return line_chart(
        lines,
        width=620,
        height=280,
        x_label="layer",
        y_label="norm of the gradient",
    )
