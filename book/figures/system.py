"""The map of the whole system, the same on every page; one part of it is lit."""

from __future__ import annotations

from shapes import arrow, box, picture

from folio.viz.markup import Markup
from folio.viz.svg import label

# name: x, y, width, height, lines
PARTS = {
    "text": (10, 60, 84, 44, "text"),
    "tokenizer": (122, 60, 96, 44, "tokenizer"),
    "embeddings": (246, 60, 116, 44, "embeddings,", "positions"),
    "attention": (402, 40, 112, 36, "attention"),
    "feed-forward": (402, 88, 112, 36, "feed-forward"),
    "head": (554, 60, 92, 44, "output", "head"),
    "sampling": (674, 60, 92, 44, "sampling"),
    "loss": (554, 158, 92, 40, "loss"),
    "training": (402, 158, 112, 40, "training loop"),
    "data": (122, 158, 96, 40, "batches"),
    "instructions": (122, 240, 110, 40, "instructions"),
    "rewards": (262, 240, 100, 40, "rewards"),
    "alignment": (392, 240, 112, 40, "alignment"),
    "deployment": (534, 240, 112, 40, "deployment"),
}
COLORS = {"data": "rate", "loss": "validation", "training": "validation"}


def draw(*lit: str) -> Markup:
    """The map with the parts called `lit` in full color."""
    for name in lit:
        if name not in PARTS:
            raise ValueError(f"no part {name!r} on the map; known: {', '.join(PARTS)}")
    boxes = [
        box(*place, color=COLORS.get(name, "train"), lit=name in lit)
        for name, place in PARTS.items()
    ]
    return picture(776, 296, *block(), *arrows(), *boxes)


def block() -> list[Markup]:
    """The frame around what is repeated."""
    return [
        box(388, 14, 140, 122, filled=False),
        label("transformer block, × L", 458, 30, "middle", font_size=11.5),
    ]


def arrows() -> list[Markup]:
    """How text becomes text, how a loss comes back, and the stages that follow."""
    across = [(94, 120), (218, 244), (362, 386), (528, 552), (646, 672)]
    forward = [arrow((start, 82), (end, 82)) for start, end in across]
    return [
        *forward,
        arrow((458, 76), (458, 86)),
        arrow((720, 60), (720, 6), (52, 6), (52, 58)),
        arrow((170, 104), (170, 156)),
        arrow((218, 178), (400, 178)),
        arrow((600, 104), (600, 156)),
        arrow((554, 178), (516, 178)),
        arrow((458, 158), (458, 138)),
        arrow((458, 198), (458, 219), (177, 219), (177, 238)),
        arrow((232, 260), (260, 260)),
        arrow((362, 260), (390, 260)),
        arrow((504, 260), (532, 260)),
    ]
