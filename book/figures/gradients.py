"""Figures of the chapter on gradients from scratch."""

from __future__ import annotations

from shapes import RESULT, arrow, box, picture

from folio.scratch.autograd import Tensor
from folio.viz.markup import Markup
from folio.viz.svg import label

W, X, B, Y = 2.0, 3.0, 1.0, 5.0
WIDE, HIGH = 92, 34


def by_hand() -> Markup:
    """A line's error, squared: values forward in boxes, slopes back below them."""
    error = W * X + B - Y
    slope = 2 * error
    w, x, b = (Tensor(value) for value in (W, X, B))
    ((w * x + b - Y) ** 2.0).backward()
    nodes = [  # x, y, text, slope
        (10, 24, f"w = {W:g}", float(w.grad)),
        (10, 104, f"x = {X:g}", float(x.grad)),
        (140, 64, f"w x = {W * X:g}", slope),
        (140, 144, f"b = {B:g}", float(b.grad)),
        (270, 64, f"+ b = {W * X + B:g}", slope),
        (400, 64, f"− y = {error:g}", slope),
        (530, 64, f"squared: {error**2:g}", 1.0),
    ]
    boxes = [box(x, y, WIDE, HIGH, text, color="train") for x, y, text, _ in nodes]
    slopes = [
        label(f"{s:g}", x + WIDE / 2, y + HIGH + 18, "middle", color=RESULT)
        for x, y, _, s in nodes
    ]
    known = box(270, 144, WIDE, HIGH, f"y = {Y:g}")
    joints = [
        ((102, 41), (138, 74)),
        ((102, 121), (138, 88)),
        ((232, 81), (268, 81)),
        ((232, 161), (250, 161), (250, 90), (268, 90)),
        ((362, 81), (398, 81)),
        ((362, 161), (380, 161), (380, 90), (398, 90)),
        ((492, 81), (528, 81)),
    ]
    return picture(632, 204, *boxes, *slopes, known, *(arrow(*j) for j in joints))
