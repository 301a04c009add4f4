"""Figures of the appendix on mathematics."""

from __future__ import annotations

from shapes import arrow, caption, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

MATRIX = ((2, 1), (-1, 1))  # its rows: where the two sides of the square go
UNIT = 56


def square() -> Markup:
    """The unit square, and what a matrix makes of it."""
    identity = ((1, 0), (0, 1))
    rows = " ".join(str(row).replace("-", "−") for row in MATRIX)
    return picture(
        560,
        176,
        caption("before", 118, 14),
        plane(90, 158, identity, ("(1, 0)", "(0, 1)")),
        arrow((226, 102), (300, 102)),
        label(f"rows {rows}", 262, 122, "middle"),
        caption("after", 418, 14),
        plane(390, 158, MATRIX, [str(r).replace("-", "−") for r in MATRIX]),
    )


def plane(x: float, y: float, sides, names) -> Markup:
    """Axes through (x, y), the arrows of two sides, and what lies between them."""

    def at(a: float, b: float) -> tuple[float, float]:
        return x + UNIT * a, y - UNIT * b

    (a, b), (c, d) = sides
    corners = [at(0, 0), at(a, b), at(a + c, b + d), at(c, d)]
    points = " ".join(f"{u:g},{v:g}" for u, v in corners)
    dots = [
        tag("circle", cx=u, cy=v, r=1.5, fill=paint("rule"))
        for u, v in (at(i, j) for i in range(-1, 3) for j in range(3))
    ]
    tips = [at(a, b), at(c, d)]
    shifts = [(8, 4, "start"), (0, -8, "middle")]
    return tag(
        "g",
        *dots,
        tag("polygon", points=points, fill=paint("train"), fill_opacity="0.15"),
        arrow(at(0, 0), tips[0], color="train"),
        arrow(at(0, 0), tips[1], color="train"),
        *(
            label(name, u + dx, v + dy, anchor, color="train")
            for name, (u, v), (dx, dy, anchor) in zip(names, tips, shifts, strict=True)
        ),
    )
