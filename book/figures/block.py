"""Figures of the chapters on the block's parts and on the whole decoder.

The residual stream is `train` (blue), attention `validation` (orange), the feed-forward
part `gradient` (purple), norms `rate` (teal), embeddings and head `speed`.
"""

from __future__ import annotations

import math

from shapes import arrow, box, caption, grid, picture

from folio.model.config import ModelConfig, gpt2_like
from folio.model.count import count_parameters
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

STREAM, ATTENTION, THINK, NORM, TABLE = (
    *("train", "validation", "gradient", "rate"),
    "speed",
)
WORDS = ("(3, 1)", "(1, 3)", "(2, 2)")
INPUTS = [[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]]
FOUR = [1.0, 3.0, 3.0, 9.0]
GAIN, BIAS = [1.0, 3.0, 3.0, 0.6], [0.0, 0.0, 1.0, 0.0]


def gelu(x: float) -> float:
    """x times the chance that a normal number is below x."""
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


# ---- the feed-forward part -----------------------------------------------------------


def feed_forward() -> Markup:
    """Three tokens through a feed-forward part that tells how far apart numbers are."""
    up = [[a - b, b - a] for a, b in INPUTS]
    bent = [[gelu(value) for value in row] for row in up]
    out = [[sum(row)] for row in bent]
    top = 58
    columns = [
        ("x", 20, INPUTS, STREAM, "{:g}"),
        ("x W↑", 162, up, THINK, "{:g}"),
        ("GELU", 304, bent, THINK, "{:.2f}"),
        ("y", 446, out, STREAM, "{:.2f}"),
    ]
    parts = []
    for name, x, rows, color, form in columns:
        shown = [[form.format(v + 0.0).replace("-", "−") for v in row] for row in rows]
        parts.append(grid(x, top, shown, color=color))
        parts.append(caption(name, x + 22 * len(rows[0]), top - 12, color))
    for x, what in ((113, "up"), (255, "bend"), (397, "down")):
        parts.append(arrow((x, top + 42), (x + 42, top + 42)))
        parts.append(label(what, x + 20, top + 34, "middle", font_size=11.5))
    return picture(510, 156, *parts, narrow=True)


def bends() -> Markup:
    """ReLU and GELU, and the slope of GELU."""
    at = [step / 20 for step in range(-80, 61)]
    relu = [max(0.0, x) for x in at]
    slope = [
        0.5 * (1 + math.erf(x / math.sqrt(2)))
        + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        for x in at
    ]
    lines = [
        Series("ReLU", at, relu, color="other", dashed=True),
        Series("GELU", at, [gelu(x) for x in at], color=THINK),
        Series("its slope", at, slope, color="rate"),
    ]
    return line_chart(lines, width=560, height=220, x_label="x")


# ---- LayerNorm -----------------------------------------------------------------------


def four_numbers() -> Markup:
    """LayerNorm by hand: four numbers as bars, step by step."""
    mean = sum(FOUR) / 4
    centered = [x - mean for x in FOUR]
    deviation = math.sqrt(sum(x * x for x in centered) / 4)
    normed = [x / deviation for x in centered]
    learned = [x * g + b for x, g, b in zip(normed, GAIN, BIAS, strict=True)]
    steps = [
        ("as they come", FOUR, STREAM, f"mean {mean:g}"),
        ("minus the mean", centered, NORM, f"deviation {deviation:g}"),
        ("over the deviation", normed, NORM, "mean 0, deviation 1"),
        ("times gain, plus bias", learned, THINK, "as learned"),
    ]
    parts = []
    for index, (name, values, color, below) in enumerate(steps):
        left = 16 + 156 * index
        parts += bars(left, 122, values, color, 9 if index < 2 else 18)
        parts.append(caption(name, left + 64, 16, color))
        parts.append(label(below, left + 64, 206, "middle", font_size=11.5))
        if index:
            parts.append(arrow((left - 22, 122), (left - 6, 122)))
    return picture(630, 218, *parts)


def bars(
    left: float, base: float, values: list[float], color: str, unit: float
) -> list[Markup]:
    """Numbers as bars that stand on, or hang from, a line."""
    parts = [
        tag("line", x1=left, y1=base, x2=left + 128, y2=base, stroke=paint("rule"))
    ]
    for index, value in enumerate(values):
        x, height = left + 4 + 31 * index, abs(value) * unit
        top = base - height if value > 0 else base
        place = {"x": x, "y": top, "width": 26, "height": max(height, 1)}
        parts.append(tag("rect", fill=paint(color), fill_opacity="0.75", **place))
        above = value >= 0
        y = top - 5 if above else top + height + 13
        text = f"{round(value, 2) + 0.0:g}".replace("-", "−")
        parts.append(label(text, x + 13, y, "middle", color="ink", font_size=11.5))
    return parts


# ---- the residual stream -------------------------------------------------------------


def stream() -> Markup:
    """One block as a stream to which two parts add what they made of a normed copy."""
    y, top = 128, 22
    parts = [
        tag(
            "line",
            x1=20,
            y1=y,
            x2=628,
            y2=y,
            stroke=paint(STREAM),
            stroke_width=9,
            stroke_opacity="0.35",
        ),
        arrow((20, y), (642, y), color="train"),
        label("the stream, D numbers for each token", 24, y + 28, color=STREAM),
        label("never overwritten, only added to", 24, y + 45),
    ]
    for x, name, color in ((96, "attention", ATTENTION), (372, "feed-forward", THINK)):
        parts += [
            arrow((x, y), (x, top + 18), (x + 22, top + 18)),
            box(x + 24, top, 56, 36, "norm", color=NORM),
            arrow((x + 80, top + 18), (x + 100, top + 18)),
            box(x + 102, top, 100, 36, name, color=color, lit=True),
            arrow((x + 202, top + 18), (x + 226, top + 18), (x + 226, y - 13)),
            plus(x + 226, y),
        ]
    parts.append(label("copies", 104, 84, font_size=11.5))
    parts.append(label("adds", 329, 84, font_size=11.5))
    return picture(654, 180, *parts)


def plus(x: float, y: float, radius: float = 11) -> Markup:
    """A sum, in a circle."""
    arm = {"stroke": paint(STREAM), "stroke_width": 2}
    return tag(
        "g",
        tag(
            "circle",
            cx=x,
            cy=y,
            r=radius,
            fill=paint("paper"),
            stroke=paint(STREAM),
            stroke_width=1.6,
        ),
        tag("line", x1=x - 5, y1=y, x2=x + 5, y2=y, **arm),
        tag("line", x1=x, y1=y - 5, x2=x, y2=y + 5, **arm),
    )


def two_orders() -> Markup:
    """Where the norm stands: before a part, or behind the sum."""
    parts = []
    for left, name, behind in ((20, "pre-norm", False), (336, "post-norm", True)):
        y, top, end = 112, 34, left + 282
        parts.append(caption(name, left + 140, 18))
        branch = left + 30
        if behind:
            parts += [
                arrow((branch, y), (branch, top + 16), (branch + 28, top + 16)),
                box(branch + 30, top, 64, 32, "part", color=ATTENTION, lit=True),
                arrow((branch + 94, top + 16), (branch + 130, top + 16)),
                arrow((branch + 130, top + 16), (branch + 130, y - 13)),
                arrow((left, y), (branch + 117, y), color="train"),
                plus(branch + 130, y),
                arrow((branch + 141, y), (branch + 162, y), color="train"),
                box(branch + 164, y - 16, 54, 32, "norm", color=NORM, lit=True),
                arrow((branch + 218, y), (end, y), color="train"),
            ]
        else:
            parts += [
                arrow((branch, y), (branch, top + 16), (branch + 22, top + 16)),
                box(branch + 24, top, 54, 32, "norm", color=NORM, lit=True),
                arrow((branch + 78, top + 16), (branch + 96, top + 16)),
                box(branch + 98, top, 64, 32, "part", color=ATTENTION, lit=True),
                arrow((branch + 162, top + 16), (branch + 192, top + 16)),
                arrow((branch + 192, top + 16), (branch + 192, y - 13)),
                arrow((left, y), (branch + 179, y), color="train"),
                plus(branch + 192, y),
                arrow((branch + 203, y), (end, y), color="train"),
            ]
    return picture(640, 144, *parts)


# ---- the whole decoder ---------------------------------------------------------------


def decoder() -> Markup:
    """From ids to logits, with the shape at each arrow; one block opened."""
    x, wide, middle = 40, 150, 115
    rows = [
        (20, "tokens", "other", False),
        (84, "embedding", TABLE, True),
        (148, "+ positions", TABLE, True),
        (212, "block 1", STREAM, True),
        (276, "block 2 … block L", STREAM, True),
        (340, "norm", NORM, True),
        (404, "head", TABLE, True),
        (468, "logits", "other", False),
    ]
    shapes = ["(B, T)", *["(B, T, D)"] * 5, "(B, T, V)"]
    parts = []
    for index, (y, name, color, lit) in enumerate(rows):
        parts.append(box(x, y, wide, 36, name, color=color, lit=lit))
        if index + 1 < len(rows):
            parts.append(arrow((middle, y + 36), (middle, y + 62)))
            parts.append(label(shapes[index], middle + 10, y + 54, font_size=11.5))
    parts += opened(270, 20)
    edge = {"stroke": paint("rule"), "stroke_dasharray": "4 4"}
    parts.append(tag("line", x1=190, y1=212, x2=270, y2=20, **edge))
    parts.append(tag("line", x1=190, y1=248, x2=270, y2=504, **edge))
    parts.append(tied())
    return picture(640, 524, *parts)


def tied() -> Markup:
    """The dashed line between the two uses of one table."""
    path = "M40 102L20 102L20 422L38 422"
    return tag(
        "g",
        tag(
            "path",
            d=path,
            fill="none",
            stroke=paint(TABLE),
            stroke_width=1.4,
            stroke_dasharray="5 4",
        ),
        tag(
            "text",
            "the same matrix",
            x=0,
            y=0,
            fill=paint(TABLE),
            font_size=11.5,
            text_anchor="middle",
            transform="translate(14 262) rotate(-90)",
        ),
    )


def opened(left: float, top: float) -> list[Markup]:
    """The inside of one block, top to bottom: the stream runs along its left side."""
    lane, part = left + 36, left + 92
    frame = {"x": left, "y": top, "width": 356, "height": 484, "rx": 6}
    parts = [
        tag("rect", fill=paint("surface"), stroke=paint("rule"), **frame),
        label("inside of one block", left + 344, top + 20, "end", font_weight=600),
    ]
    steps = [
        ("norm", NORM, "(B, T, D)"),
        ("queries, keys, values", ATTENTION, "(B, H, T, K), three times"),
        ("scores, mask, softmax", ATTENTION, "(B, H, T, T)"),
        ("mix, join the heads, out", ATTENTION, "(B, T, D)"),
    ]
    parts += branch(lane, part, top + 34, steps)
    steps = [
        ("norm", NORM, "(B, T, D)"),
        ("up, GELU", THINK, "(B, T, F), F = 4 D"),
        ("down", THINK, "(B, T, D)"),
    ]
    parts += branch(lane, part, top + 284, steps)
    wide = {"stroke": paint(STREAM), "stroke_width": 8, "stroke_opacity": "0.3"}
    end = top + 484
    line = tag("line", x1=lane, y1=top + 6, x2=lane, y2=end - 8, **wide)
    return [
        *parts[:2],
        line,
        arrow((lane, top + 6), (lane, end - 3), color="train"),
        *parts[2:],
    ]


def branch(
    lane: float, left: float, top: float, steps: list[tuple[str, str, str]]
) -> list[Markup]:
    """Away from the stream, through the steps, and back by a sum."""
    parts = [arrow((lane, top + 14), (left - 2, top + 14))]
    for index, (name, color, shape) in enumerate(steps):
        y = top + 52 * index
        parts.append(box(left, y, 164, 28, name, color=color, lit=color != NORM))
        last = index + 1 == len(steps)
        if not last:
            parts.append(arrow((left + 82, y + 28), (left + 82, y + 50)))
        parts.append(label(shape, left + 92, y + 44, font_size=11.5))
    bottom = top + 52 * len(steps) + 2
    parts.append(
        arrow((left + 82, bottom - 26), (left + 82, bottom), (lane + 13, bottom))
    )
    parts.append(plus(lane, bottom))
    return parts


# ---- where the numbers are -----------------------------------------------------------

GPT2 = {
    "GPT-2, 12 blocks": {"d_model": 768, "n_layers": 12, "n_heads": 12},
    "GPT-2, 48 blocks": {"d_model": 1600, "n_layers": 48, "n_heads": 25},
}
COLORS = {
    "embedding, head": TABLE,
    "positions": "other",
    "attention": ATTENTION,
    "scores, mixing": "warning",
    "feed-forward": THINK,
    "norms": NORM,
}


def parameters(config: ModelConfig) -> dict[str, float]:
    """Parameters by part."""
    counts = count_parameters(config)
    return {
        "embedding, head": counts["embedding"] + counts["head"],
        "positions": counts["positions"],
        "attention": counts["attention"],
        "feed-forward": counts["mlp"],
        "norms": counts["norms"],
    }


def operations(config: ModelConfig, length: int) -> dict[str, float]:
    """Operations of one forward pass for each token, as `flops_per_token` counts."""
    counts = count_parameters(config)
    return {
        "embedding, head": 2 * config.vocab_size * config.d_model,
        "attention": 2 * counts["attention"],
        "scores, mixing": 2 * config.n_layers * config.d_model * length,
        "feed-forward": 2 * counts["mlp"],
    }


def where() -> Markup:
    """Shares of parameters and operations, for the smallest and the largest GPT-2."""
    parts, y, left, wide = [], 30, 20, 600
    for name, sizes in GPT2.items():
        config = gpt2_like(vocab_size=50_257, max_seq_len=1024, **sizes)
        held, done = parameters(config), operations(config, 1024)
        million, billion = sum(held.values()) / 1e6, sum(done.values()) / 1e9
        titles = (
            f"{name}: {million:,.0f} million parameters",
            f"{billion:,.2f} billion operations per token, forward",
        )
        for title, shares in zip(titles, (held, done), strict=True):
            parts.append(label(title, left, y - 6, color="ink"))
            parts += strip(left, y, wide, shares)
            y += 58
        y += 8
    parts += legend(left, y - 12)
    return picture(640, y + 22, *parts)


def strip(
    left: float, y: float, width: float, shares: dict[str, float]
) -> list[Markup]:
    """A bar cut into parts; those that are wide enough say how large they are."""
    parts, total, x = [], sum(shares.values()), left
    for name, value in shares.items():
        share = value / total
        place = {"x": x, "y": y, "width": share * width, "height": 26}
        parts.append(
            tag("rect", fill=paint(COLORS[name]), stroke=paint("paper"), **place)
        )
        if share > 0.05:
            middle = x + share * width / 2
            text = f"{share:.0%}"
            parts.append(label(text, middle, y + 17.5, "middle", color="paper"))
        x += share * width
    return parts


def legend(left: float, y: float) -> list[Markup]:
    """What the colors mean."""
    parts, x = [], left
    for name, color in COLORS.items():
        swatch = {"x": x, "y": y, "width": 11, "height": 11}
        parts.append(tag("rect", fill=paint(color), **swatch))
        parts.append(label(name, x + 16, y + 10, font_size=12))
        x += 28 + 6.6 * len(name)
    return parts
