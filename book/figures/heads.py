"""Figures of chapter 10: heads side by side, and what a recorded run's heads do."""

from __future__ import annotations

from collections.abc import Sequence

from qkv import attention, frame, placed, recorded
from shapes import KEY, QUERY, RESULT, VALUE, arrow, box, caption, grid, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

PATTERNS = {  # scores of the record: their names in figures
    "previous": "previous",
    "itself": "itself",
    "first": "first",
    "same": "same",
    "after": "after same",
    "thing": "thing again",
    "name": "name again",
    "repeat": "random twice",
}


def split_and_join() -> Markup:
    """From (T, D) to heads and back: which number goes where."""
    top, high = 60, 30
    hues = (QUERY, KEY, VALUE, RESULT)
    body = [
        caption("x (T, D)", 40, top - 14),
        box(8, top + 16, 64, 58, "tokens"),
        arrow((74, top + 45), (98, top + 45)),
        box(100, top + 10, 92, 70, "c_attn", "D → 3D", color="train"),
        arrow((194, top + 45), (218, top + 45)),
        caption("q, k, v: (T, D) each", 268, top - 14),
    ]
    for head, hue in enumerate(hues):
        place = {"x": 222 + 23 * head, "y": top + 10, "width": 23, "height": 70}
        body.append(
            tag("rect", fill=paint(hue), fill_opacity=0.35, stroke=paint(hue), **place)
        )
        body.append(label(str(head + 1), 233.5 + 23 * head, top + 50, "middle", "ink"))
    for head, hue in enumerate(hues):
        y = top - 34 + 46 * head
        body += [
            arrow((318, top + 45), (352, y + high / 2)),
            tag(
                "rect",
                x=354,
                y=y,
                width=132,
                height=high,
                rx=5,
                fill=paint(hue),
                fill_opacity=0.2,
                stroke=paint(hue),
            ),
            label(f"attention, head {head + 1}", 420, y + 19.5, "middle", "ink"),
            arrow((488, y + high / 2), (522, top + 45)),
        ]
        place = {"x": 526 + 23 * head, "y": top + 10, "width": 23, "height": 70}
        body.append(
            tag("rect", fill=paint(hue), fill_opacity=0.35, stroke=paint(hue), **place)
        )
        body.append(label(str(head + 1), 537.5 + 23 * head, top + 50, "middle", "ink"))
    body += [
        caption("side by side (T, D)", 572, top - 14),
        arrow((620, top + 45), (644, top + 45)),
        box(646, top + 10, 92, 70, "c_proj", "D → D", color="train"),
    ]
    return picture(746, 206, *body)


def all_heads() -> Markup:
    """Every head at the last step, on the sentence, with what it scores highest in."""
    record, weights = recorded(), attention().weights[-1]
    layers, heads, length, _ = weights.shape
    size, gap, left, top = 160.0, 18.0, 84.0, 34.0
    body = []
    for row in record["heads"]:
        x = left + row["head"] * (size + gap)
        y = top + row["layer"] * (size + 64)
        name, score = strongest(row, record["chance"])
        body += [
            label(f"head {row['label']}", x, y - 9, color="ink", font_weight=700),
            frame(x, y, size),
            placed(weights[row["layer"], row["head"]], x, y, size / length),
            label(f"{PATTERNS[name]} {score:.2f}", x, y + size + 18, color=RESULT),
        ]
    width = 2 * left + heads * (size + gap) - gap
    return picture(int(width), int(top + layers * (size + 64) - 30), *body)


def strongest(row: dict, chance: dict) -> tuple[str, float]:
    """The pattern in which a head is furthest above one that looks everywhere alike."""
    name = max(PATTERNS, key=lambda name: row[name][-1] - chance[name])
    return name, row[name][-1]


def scores() -> Markup:
    """A table of all scores of all heads, filled by their size."""
    record = recorded()
    rows = record["heads"]
    cell, left, top = (84.0, 21.0), 84.0, 34.0
    table = [[row[name][-1] for name in PATTERNS] for row in rows]
    even = [record["chance"][name] for name in PATTERNS]
    shown = [[f"{value:.2f}" for value in line] for line in [*table, even]]
    body = [
        label(text, left + (column + 0.5) * cell[0], top - 10, "middle", "ink")
        for column, text in enumerate(PATTERNS.values())
    ]
    for index, text in enumerate([f"head {row['label']}" for row in rows] + ["chance"]):
        y = top + (index + 0.5) * cell[1] + 4.5
        body.append(label(text, left - 10, y, "end", "ink"))
    body.append(grid(left, top, shown, color=RESULT, cell=cell, shares=[*table, even]))
    height = top + cell[1] * len(shown) + 8
    return picture(int(left + cell[0] * len(PATTERNS) + 10), int(height), *body)


def ablation() -> Markup:
    """How much the held-out loss rises without each head, and without more."""
    record = recorded()
    rows: list[tuple[str, float, str]] = [
        (f"without head {row['label']}", row["rise"], "train")
        for row in record["heads"]
    ]
    for layer in record["layers_without"]:
        number = layer["layer"]
        rows.append((f"layer {number}: head {layer['kept']} alone", layer["one"], KEY))
        rows.append((f"layer {number}: no head", layer["none"], KEY))
    return bars(rows, "held-out loss rises by, nats per token")


def bars(rows: Sequence[tuple[str, float, str]], name: str) -> Markup:
    """Lying bars from 0, each with its value."""
    left, wide, high, top = 206.0, 360.0, 20.0, 30.0
    most = max(value for _, value, _ in rows)
    body = [label(name, left, 18)]
    for index, (text, value, color) in enumerate(rows):
        y = top + index * high
        length = max(wide * value / most, 1.0)
        place = {"x": left, "y": y + 2, "width": round(length, 1), "height": high - 5}
        body += [
            label(text, left - 9, y + 14.5, "end", "ink"),
            tag("rect", fill=paint(color), fill_opacity=0.8, **place),
            label(
                f"{value:.3f}".replace("-", "−"),
                left + length + 7,
                y + 14.5,
                color="ink",
            ),
        ]
    return picture(680, int(top + high * len(rows) + 8), *body, narrow=True)


def scrambled() -> Markup:
    """Three tokens of four numbers in two heads: the right way, and by a reshape."""
    rows = [[f"{word}{n}" for n in range(1, 5)] for word in "abc"]
    hues = {"a": QUERY, "b": KEY, "c": VALUE}
    flat = [text for row in rows for text in row]
    wrong = [flat[:6], flat[6:]]
    right = [[row[2 * h : 2 * h + 2] for row in rows] for h in range(2)]

    def letters(x: float, y: float, table: list[list[str]]) -> list[Markup]:
        return [
            grid(
                x + 40 * j,
                y + 26 * i,
                [[text]],
                color=hues[text[0]],
                cell=(40, 26),
                shares=[[0.4]],
            )
            for i, row in enumerate(table)
            for j, text in enumerate(row)
        ]

    body = [caption("x: three tokens", 90, 20), *letters(10, 32, rows)]
    body += [
        arrow((182, 70), (226, 70)),
        caption("unflatten, transpose", 330, 20, "good"),
        caption("reshape(B, H, T, K)", 556, 20, "warning"),
    ]
    for head in range(2):
        y = 32 + head * 98
        body.append(label(f"head {head + 1}", 244, y + 43, color="ink"))
        body += letters(300, y, right[head])
        body.append(label(f"head {head + 1}", 466, y + 43, color="ink"))
        table = [wrong[head][2 * i : 2 * i + 2] for i in range(3)]
        body += letters(522, y, table)
    return picture(620, 218, *body)
