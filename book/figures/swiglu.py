"""Figures of the chapter on SwiGLU."""

from __future__ import annotations

import math

import numpy as np
import torch
from shapes import KEY, QUERY, RESULT, VALUE, arrow, caption, grid, picture

from folio.model.mlp import ACTIVATIONS
from folio.viz.markup import Markup
from folio.viz.svg import Series, label, line_chart

X = np.array([1.0, 2.0])
GATE = np.array([[2.0, 0.0], [0.0, -1.0]])
UP = np.array([[1.0, 0.0], [1.0, 2.0]])


def silu(z: float) -> float:
    """
    >>> round(silu(2.0), 2), round(silu(-2.0), 2)
    (1.76, -0.24)
    """
    return z / (1 + math.exp(-z))


def by_hand() -> Markup:
    """One token of two numbers goes through a gated part with two units."""
    gate, value = X @ GATE, X @ UP
    opened = np.array([silu(z) for z in gate])
    product = opened * value
    top, low = 44, 140
    return picture(
        560,
        212,
        caption("x", 54, 88, "other"),
        grid(10, 98, [[f"{v:g}" for v in X]], color="other"),
        arrow((102, 106), (146, top + 16)),
        arrow((102, 118), (146, low + 12)),
        caption("gate", 196, top - 10, QUERY),
        grid(152, top, [[f"{v:g}" for v in gate]], color=QUERY),
        arrow((244, top + 14), (288, top + 14)),
        label("silu", 266, top + 6, "middle"),
        caption("how far open", 338, top - 10, QUERY),
        grid(294, top, [[f"{v:.2f}" for v in opened]], color=QUERY),
        caption("value", 196, low - 10, VALUE),
        grid(152, low, [[f"{v:g}" for v in value]], color=VALUE),
        arrow((386, top + 20), (426, 98)),
        arrow((244, low + 14), (426, 118)),
        label("×", 440, 114, "middle", font_size=17),
        caption("product", 504, 88, RESULT),
        grid(460, 98, [[f"{v:.2f}" for v in product]], color=RESULT),
        label("then down, to the width of x", 552, 150, "end"),
        narrow=False,
    )


def curves() -> Markup:
    """What bends: GELU, the square of ReLU, and the gate of SwiGLU."""
    z = torch.linspace(-4, 2, 121)
    lines = [
        Series("GELU", z.tolist(), ACTIVATIONS["gelu"](z).tolist(), color=KEY),
        Series("ReLU²", z.tolist(), ACTIVATIONS["relu2"](z).tolist(), color=VALUE),
        Series("SiLU", z.tolist(), ACTIVATIONS["swiglu"](z).tolist(), color=QUERY),
    ]
    return line_chart(
        lines,
        width=560,
        height=220,
        x_label="what goes in",
        y_label="what comes out",
    )


def surface(side: int = 31, reach: float = 3.0) -> Markup:
    """What a unit gives for each gate and value: a plain one has no second axis."""
    from folio.viz.color import paint
    from folio.viz.markup import tag

    cell, top, parts = 6.4, 34, []
    axis = [reach * (2 * i / (side - 1) - 1) for i in range(side)]
    for left, name, unit in (
        (44, "plain: silu(gate)", lambda gate, value: silu(gate)),
        (306, "gated: silu(gate) × value", lambda gate, value: silu(gate) * value),
    ):
        most = max(abs(unit(g, v)) for g in axis for v in axis)
        parts.append(label(name, left, 20, color="ink", font_weight=600))
        for i, value in enumerate(reversed(axis)):
            for j, gate in enumerate(axis):
                z = unit(gate, value)
                parts.append(
                    tag(
                        "rect",
                        x=left + cell * j,
                        y=top + cell * i,
                        width=cell,
                        height=cell,
                        fill=paint("train" if z > 0 else "validation"),
                        fill_opacity=f"{(abs(z) / most) ** 0.7:.2f}",
                    )
                )
        end, bottom = left + cell * side, top + cell * side
        parts.append(label("gate", end, bottom + 16, "end"))
        parts.append(label("value", left - 6, top + 10, "end"))
        parts.append(label("0", (left + end) / 2, bottom + 16, "middle"))
        parts.append(label("0", left - 6, (top + bottom) / 2 + 4, "end"))
    return picture(516, 256, tag("g", *parts, shape_rendering="crispEdges"))
