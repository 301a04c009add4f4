"""Figures of the chapter on the cache and on heads that share keys."""

from __future__ import annotations

from shapes import KEY, QUERY, RESULT, VALUE, caption, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

STEPS = 6


def square(x: float, y: float, color: str, strong: bool, size: float = 22) -> Markup:
    """One key and value: computed now (strong), or remembered."""
    return tag(
        "rect",
        x=x,
        y=y,
        width=size,
        height=size,
        rx=3,
        fill=paint(color),
        fill_opacity="0.8" if strong else "0.16",
        stroke=paint(color),
    )


def growing() -> Markup:
    """What is computed for each of six tokens, without a cache and with one."""
    parts = []
    for left, name, cached in ((60, "without a cache", False), (330, "with one", True)):
        parts.append(caption(name, left + 78, 18))
        total = 0
        for step in range(STEPS):
            y = 32 + 30 * step
            for place in range(step + 1):
                new = place == step or not cached
                parts.append(square(left + 26 * place, y, KEY, new))
                total += new
            parts.append(
                label(str(total), left + 26 * STEPS + 26, y + 16, "end", color="ink")
            )
        parts.append(label("in all", left + 26 * STEPS + 26, 18, "end", font_size=11.5))
    rows = [
        label(f"token {step + 1}", 50, 48 + 30 * step, "end", font_size=11.5)
        for step in range(STEPS)
    ]
    y = 32 + 30 * STEPS + 12
    legend = [
        square(120, y, KEY, True, 14),
        label("key and value computed now", 140, y + 12, font_size=11.5),
        square(330, y, KEY, False, 14),
        label("remembered", 350, y + 12, font_size=11.5),
    ]
    return picture(560, 252, *rows, *parts, *legend, narrow=True)


def sharing() -> Markup:
    """Eight heads of queries and those of keys and values that serve them."""
    parts = []
    for index, (groups, name, short) in enumerate(
        (
            (8, "multi-head", "G = 8"),
            (2, "grouped", "G = 2"),
            (1, "multi-query", "G = 1"),
        )
    ):
        left = 14 + 232 * index
        parts.append(caption(name, left + 104, 18))
        queries = [left + 26 * head for head in range(8)]
        share = 8 // groups
        for group in range(groups):
            own = queries[group * share : (group + 1) * share]
            x = sum(own) / len(own)
            parts += [line(q + 10, 58, x + 10, 100) for q in own]
            parts.append(square(x, 100, KEY, True, 20))
            parts.append(square(x, 126, VALUE, True, 20))
        parts += [square(q, 36, QUERY, True, 20) for q in queries]
        parts.append(label(short, left + 104, 168, "middle", color="ink"))
    legend = []
    for x, color, text in (
        (176, QUERY, "query head"),
        (306, KEY, "key head"),
        (420, VALUE, "value head"),
    ):
        legend += [square(x, 186, color, True, 14)]
        legend += [label(text, x + 20, 198, font_size=11.5)]
    return picture(700, 212, *parts, *legend)


def line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", stroke=paint("quiet"), stroke_width=1.2, **ends)


# numbers that one token leaves in the caches of all layers; sources in the chapter
MODELS = (
    ("Llama 2 7B", 32, 2 * 32 * 128, "32 heads of keys"),
    ("Llama 2 70B", 80, 2 * 8 * 128, "8 of 64"),
    ("Llama 3 8B", 32, 2 * 8 * 128, "8 of 32"),
    ("DeepSeek-V3", 61, 512 + 64, "latent, for 128"),
)


def sizes() -> Markup:
    """What one token costs in bf16, and what it would if each head had its own keys."""
    without = {"Llama 2 70B": 80 * 2 * 64 * 128, "Llama 3 8B": 32 * 2 * 32 * 128}
    without["DeepSeek-V3"] = 61 * 128 * (128 + 64 + 128)
    unit = 2 / 1024  # KiB per number of 16 bits
    scale, left = 380 / (max(without.values()) * unit), 100
    parts = []
    for row, (name, layers, numbers, how) in enumerate(MODELS):
        y = 12 + 44 * row
        kept = layers * numbers * unit
        parts.append(label(name, left - 8, y + 15, "end", color="ink"))
        parts.append(label(how, left - 8, y + 30, "end", font_size=10.5))
        full = without.get(name, layers * numbers) * unit
        for top, value, color, strong in (
            (y + 2, kept, RESULT, True),
            (y + 18, full, "other", False),
        ):
            place = {"x": left, "y": top, "width": scale * value, "height": 13}
            opacity = "0.85" if strong else "0.35"
            parts.append(tag("rect", fill=paint(color), fill_opacity=opacity, **place))
            text = f"{value:,.0f} KiB"
            x = left + scale * value + 6
            ink = "ink" if strong else "quiet"
            parts.append(label(text, x, top + 11, font_size=11.5, color=ink))
    return picture(570, 190, *parts, narrow=True)
