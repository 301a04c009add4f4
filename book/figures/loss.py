"""Figures of the chapter on cross-entropy and perplexity."""

from __future__ import annotations

import math

from shapes import RESULT, caption, grid, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

TRUTH = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
FORECASTERS = {
    "the truth itself": TRUTH,
    "knows nothing": (1 / 4,) * 4,
    "has it backward": TRUTH[::-1],
}


def bits(chances: tuple[float, ...]) -> float:
    """What one weather costs on average, told by this forecaster."""
    return -sum(p * math.log2(q) for p, q in zip(TRUTH, chances, strict=True))


def excess() -> Markup:
    """Each forecaster's bits: those of the weather, and those of being wrong."""
    least, unit, left = bits(TRUTH), 100, 136
    parts = [
        caption("entropy", left + unit * least / 2, 18, "train"),
        caption("excess", left + unit * (least + 0.45), 18, "validation"),
    ]
    for row, (name, chances) in enumerate(FORECASTERS.items()):
        y, total = 32 + 38 * row, bits(chances)
        place = {"y": y, "height": 24}
        known = {"x": left, "width": unit * least, "fill": paint("train")}
        more = {"x": left + unit * least, "width": unit * (total - least)}
        parts.append(label(name, left - 8, y + 16, "end", "ink"))
        parts.append(tag("rect", **known, **place))
        parts.append(tag("rect", **more, **place, fill=paint("validation")))
        parts.append(label(f"{total:g} bits", left + unit * total + 8, y + 16))
    return picture(480, 150, *parts, narrow=True)


def slope() -> Markup:
    """Chances, the truth as a one in one place, and their difference."""
    chances, came = TRUTH, (0, 1, 0, 0)
    rows = {
        "chance": ([f"{p:g}" for p in chances], "train"),
        "truth": ([str(c) for c in came], "rate"),
        "slope": (
            [f"{p - c:+g}" for p, c in zip(chances, came, strict=True)],
            RESULT,
        ),
    }
    names = ("sun", "cloud", "rain", "snow")
    parts = [caption(name, 106 + 70 * i, 18) for i, name in enumerate(names)]
    for row, (name, (numbers, color)) in enumerate(rows.items()):
        y = 30 + 36 * row
        parts.append(label(name, 60, y + 18, "end", color))
        parts.append(grid(71, y, [numbers], color=color, cell=(70, 28)))
    return picture(370, 140, *parts, narrow=True)
