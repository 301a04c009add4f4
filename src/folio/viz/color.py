"""One visual language: what a color means is decided here and nowhere else.

Drawings never name a color; they name a meaning, `var(--train)`, and the page says
what it looks like in light, in dark and on paper. `resolve` puts the colors themselves
in, for places without style sheets (a PDF of the book).
"""

from __future__ import annotations

import re

# meaning: (light, dark). The colors of data keep a contrast of 3:1 or more with
# `paper`, those of text 4.5:1, and training, validation, rate and gradient differ
# for color-blind readers too: the tests measure both.
MEANINGS = {
    "paper": ("#fdfcf9", "#15171b"),
    "surface": ("#f5f3ed", "#1d2025"),
    "ink": ("#1d1f24", "#eceae4"),
    "quiet": ("#62656d", "#a0a5af"),
    "rule": ("#dcd8ce", "#363a42"),
    "grid": ("#ebe8e0", "#272a31"),
    "train": ("#2a69b3", "#6aaef2"),
    "validation": ("#c4480f", "#ff9d5f"),
    "rate": ("#0c8074", "#45cbb4"),
    "gradient": ("#7a1f6e", "#f0a8e0"),
    "speed": ("#77691c", "#d0c25c"),
    "other": ("#5d6675", "#a9b3c2"),
    "good": ("#2d7a3e", "#7fd08f"),
    "warning": ("#9a5a00", "#f0b95a"),
}

# Runs that are compared, in order of appearance; found by a search for colors that
# stay apart for protanopes and deuteranopes too (the tests measure it).
RUNS = [
    ("#2a69b3", "#6aaef2"),
    ("#c4480f", "#ff9d5f"),
    ("#3f9d93", "#8ff0d0"),
    ("#5c1458", "#b8608a"),
    ("#4d3a0c", "#f2ea6b"),
    ("#4a35d6", "#8f5cf5"),
    ("#52575c", "#b4dafa"),
    ("#b68166", "#a3764f"),
]

# Backgrounds of neighboring tokens: they separate, and mean nothing else.
TOKENS = [
    ("#dbe7f6", "#24405f"),
    ("#fbe3d0", "#5b3a22"),
    ("#d8efe6", "#1d4a42"),
    ("#f0e0f3", "#4b2f54"),
    ("#f1ecc9", "#4a4420"),
]

# Attention weights: the more weight, the further from the paper. Lightness is
# monotonic, so that it survives gray print and every kind of color vision.
_RAMP = (
    ["#f4f1ea", "#f6dcb2", "#eda473", "#d0596b", "#8f2b7a", "#4b1467", "#200a3c"],
    ["#20232a", "#43214f", "#84286e", "#c4496c", "#ec8a63", "#f8c98b", "#fdf3d2"],
)
LEVELS = 16

THEMES = ("light", "dark")


def mix(first: str, second: str, share: float) -> str:
    """The color `share` of the way from one to the other.

    >>> mix("#000000", "#ff8000", 0.5)
    '#804000'
    """
    pairs = zip(channels(first), channels(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def channels(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255.

    >>> channels("#ff8000")
    (255, 128, 0)
    """
    return tuple(int(color[at : at + 2], 16) for at in (1, 3, 5))


def ramp(anchors: list[str], count: int) -> list[str]:
    """`count` colors spread evenly over the anchors.

    >>> ramp(["#000000", "#000080", "#0000ff"], 3)
    ['#000000', '#000080', '#0000ff']
    """
    colors = []
    for index in range(count):
        place = index * (len(anchors) - 1) / (count - 1)
        left = min(int(place), len(anchors) - 2)
        colors.append(mix(anchors[left], anchors[left + 1], place - left))
    return colors


def palette(theme: str) -> dict[str, str]:
    """Every named color of one theme, "light" or "dark".

    >>> palette("light")["train"], palette("dark")["train"]
    ('#2a69b3', '#6aaef2')
    """
    which = THEMES.index(theme)
    colors = {name: pair[which] for name, pair in MEANINGS.items()}
    colors |= {f"run-{index}": pair[which] for index, pair in enumerate(RUNS)}
    colors |= {f"token-{index}": pair[which] for index, pair in enumerate(TOKENS)}
    levels = ramp(_RAMP[which], LEVELS)
    return colors | {f"attention-{level}": color for level, color in enumerate(levels)}


def variables(theme: str) -> str:
    """The palette as declarations of CSS variables."""
    colors = palette(theme).items()
    return f"color-scheme:{theme};" + "".join(f"--{name}:{c};" for name, c in colors)


def style_sheet() -> str:
    """Light by default, dark when the system or the page's switch asks; print is light.

    The tripled `:root` makes paper win over the switch.
    """
    light, dark = variables("light"), variables("dark")
    system = f":root:not([data-theme=light]){{{dark}}}"
    return (
        f":root{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{{system}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
        f"@media print{{:root:root:root{{{light}}}}}\n"
    )


def paint(meaning: str) -> str:
    """How a drawing asks for a color.

    >>> paint("train")
    'var(--train)'
    """
    return f"var(--{meaning})"


def resolve(drawing: str, theme: str = "light") -> str:
    """A drawing that stands alone: named colors become hexadecimal, SVG gets its name.

    >>> resolve('<rect fill="var(--train)"/>')
    '<rect fill="#2a69b3"/>'
    """
    colors = palette(theme)
    drawing = re.sub(r"var\(--([a-z0-9-]+)\)", lambda m: colors[m[1]], drawing)
    if drawing.startswith("<svg ") and "xmlns=" not in drawing:
        drawing = drawing.replace(
            "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1
        )
    return drawing
