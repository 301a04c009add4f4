"""Figures of the chapter on the loop and AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from shapes import caption, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label, path_through

Point = tuple[float, float]
STEEP = 25.0  # how much more the valley bends across than along
START = (-9.0, 1.6)
WIDE, HIGH = 34.0, 24.0  # pixels a unit


def descent() -> Markup:
    """Four steps down a parabola at three learning rates."""
    parts = []
    cases = ((0.05, "rate 0.05: slow"), (0.25, "rate 0.25"), (1.05, "rate 1.05: away"))
    for column, (rate, name) in enumerate(cases):
        left = 16 + 216 * column

        def place(w: float, left: float = left) -> Point:
            return left + 190 * (w + 1.5) / 9.0, 164 - 7.6 * (w - 3.0) ** 2

        curve = [place(-1.5 + 9.0 * i / 60) for i in range(61)]
        outline = path_through([p[0] for p in curve], [p[1] for p in curve])
        walked, w = [], 0.0
        for _ in range(5):
            walked.append(place(w))
            w -= rate * 2 * (w - 3.0)
        path = path_through([p[0] for p in walked], [p[1] for p in walked])
        color = paint("validation" if rate > 1 else "train")
        parts += [
            caption(name, left + 95, 184),
            tag("path", d=outline, fill="none", stroke=paint("rule"), stroke_width=2),
            tag("path", d=path, fill="none", stroke=color, stroke_width=1.6),
            *(tag("circle", cx=x, cy=y, r=3.4, fill=color) for x, y in walked),
        ]
    return picture(664, 194, *parts)


def slope(at: Point) -> Point:
    """The gradient of half of x squared plus 25 y squared."""
    return at[0], STEEP * at[1]


def plain(rate: float, momentum: float = 0.0) -> Iterator[Point]:
    """Gradient descent; with momentum, along a running sum of gradients."""
    (x, y), (u, v) = START, (0.0, 0.0)
    while True:
        yield x, y
        a, b = slope((x, y))
        u, v = momentum * u + a, momentum * v + b
        x, y = x - rate * u, y - rate * v


def adam(rate: float, betas: Point = (0.9, 0.95)) -> Iterator[Point]:
    """Adam by the package's own step, with no decay."""
    import torch

    from folio.optim.adamw import adamw_step

    w = torch.tensor(START, dtype=torch.float64)
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    step = 0
    while True:
        yield w[0].item(), w[1].item()
        step += 1
        gradient = torch.tensor(slope((w[0].item(), w[1].item())), dtype=w.dtype)
        options = {"lr": rate, "betas": betas, "weight_decay": 0.0}
        adamw_step(w, gradient, mean, square, step, **options)


def valley() -> Markup:
    """Thirty steps of three methods in a narrow valley."""
    cases: tuple[tuple[str, Callable[[], Iterator[Point]], str], ...] = (
        ("gradient descent", lambda: plain(0.072), "validation"),
        ("with momentum", lambda: plain(0.02, 0.8), "train"),
        ("Adam", lambda: adam(0.5), "gradient"),
    )
    parts = []
    for row, (name, walk, color) in enumerate(cases):
        middle = 52.0 + 100 * row

        def place(point: Point, middle: float = middle) -> Point:
            return 380 + WIDE * point[0], middle - HIGH * point[1]

        for level in (2.0, 8.0, 18.0, 32.0, 50.0):
            across, along = math.sqrt(2 * level / STEEP), math.sqrt(2 * level)
            parts.append(
                tag(
                    "ellipse",
                    cx=380,
                    cy=middle,
                    rx=WIDE * along,
                    ry=HIGH * across,
                    fill="none",
                    stroke=paint("rule"),
                )
            )
        path = walk()
        walked = [place(next(path)) for _ in range(31)]
        line = path_through([p[0] for p in walked], [p[1] for p in walked])
        parts += [
            tag("path", d=line, fill="none", stroke=paint(color), stroke_width=1.6),
            *(tag("circle", cx=x, cy=y, r=2.3, fill=paint(color)) for x, y in walked),
            label(name, 754, middle - 40, "end", color=color, font_weight=600),
        ]
    return picture(768, 304, *parts)
