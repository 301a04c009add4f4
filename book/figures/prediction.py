"""Figures of the chapter on predicting the next token."""

from __future__ import annotations

import itertools

from shapes import RESULT, arrow, box, caption, grid, picture

from folio.viz.markup import Markup
from folio.viz.svg import Series, label, line_chart

TEXT = "banana"


def pairs() -> Markup:
    """Each prefix of a word, and the letter that it is to predict."""
    parts = []
    for row, end in enumerate(range(1, len(TEXT))):
        y = 30 + 34 * row
        letters = [list(TEXT[:end])]
        parts.append(grid(40, y, letters, color="train", cell=(34, 26)))
        parts.append(arrow((46 + 34 * end, y + 13), (256, y + 13)))
        parts.append(grid(262, y, [[TEXT[end]]], color="rate", cell=(34, 26)))
    parts.append(caption("what is seen", 110, 18, "train"))
    parts.append(caption("what comes", 280, 18, "rate"))
    return picture(330, 206, *parts, narrow=True)


def table(text: str = TEXT) -> Markup:
    """How often each letter follows each other one, and the chances made of that."""
    letters = sorted(set(text))
    follows = [
        [sum(a + b == pair for pair in zip_pairs(text)) for b in letters]
        for a in letters
    ]
    totals = [sum(row) or 1 for row in follows]
    counts = [[str(c) for c in row] for row in follows]
    chances = [
        [f"{c / total:.2f}" for c in row]
        for row, total in zip(follows, totals, strict=True)
    ]
    shares = [[float(cell) for cell in row] for row in chances]
    names = [
        label(name, x + 22 + 44 * i, 44, "middle")
        for x in (60, 280)
        for i, name in enumerate(letters)
    ]
    sides = [
        label(name, x - 14, 74 + 28 * i, "middle")
        for x in (60, 280)
        for i, name in enumerate(letters)
    ]
    return picture(
        430,
        146,
        caption("counts", 126, 20),
        caption("chances", 346, 20, RESULT),
        *names,
        *sides,
        grid(60, 55, counts, color="train"),
        grid(280, 55, chances, color=RESULT, shares=shares),
        arrow((206, 97), (256, 97)),
        narrow=True,
    )


def zip_pairs(text: str) -> list[str]:
    return [a + b for a, b in itertools.pairwise(text)]


def chain() -> Markup:
    """The loop of writing: text in, chances out, one chosen, added, again."""
    return picture(
        600,
        120,
        box(10, 40, 130, 44, "the text so far"),
        box(180, 40, 100, 44, "model", color="train", lit=True),
        box(320, 40, 110, 44, "a chance for", "every token", color="gradient"),
        box(470, 40, 110, 44, "choose one", color="rate"),
        arrow((140, 62), (178, 62)),
        arrow((280, 62), (318, 62)),
        arrow((430, 62), (468, 62)),
        arrow((525, 84), (525, 108), (75, 108), (75, 86)),
        label("add it, and ask again", 300, 102, "middle"),
    )


def surprise() -> Markup:
    """Minus the logarithm of a chance, which is what the loss averages."""
    import math

    chances = [0.01 + 0.99 * i / 200 for i in range(201)]
    values = [-math.log(p) for p in chances]
    return line_chart(
        [Series("surprise", chances, values, color="validation")],
        width=520,
        height=240,
        x_label="chance that the model gave to what came",
        y_label="nats",
        labels=False,
    )
