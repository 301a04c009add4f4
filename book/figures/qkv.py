"""Figures of chapter 9: one opening of the book, from a recorded run.

`left_page` is the cube and the numbers of one head, `right_page` the attention of the
same head at five moments of its training.
"""

from __future__ import annotations

import base64
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from shapes import KEY, QUERY, RESULT, VALUE, arrow, caption, picture

from folio.viz.attention import Attention, cells, ramp_legend, read_attention
from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

RECORD = Path(__file__).parent.parent / "results" / "attention_evolves.json"
PARTS = (("queries", "Q", QUERY), ("keys", "K", KEY), ("values", "V", VALUE))
LEAN, RISE = math.cos(math.pi / 6), math.sin(math.pi / 6)


# ------------------------------------------------------------------- the record


@cache
def recorded() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


@cache
def attention() -> Attention:
    return read_attention(RECORD)


def numbers(packed: dict[str, Any]) -> np.ndarray:
    """What the record keeps as float16 in base64."""
    data = base64.b64decode(packed["data"])
    return np.frombuffer(data, dtype="<f2").reshape(packed["shape"]).astype(float)


@cache
def projected() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The sheet that enters the layer, and queries, keys, values of the shown head."""
    shown = recorded()["shown"]
    x, matrices = numbers(shown["x"]), numbers(shown["matrices"])
    return x, *(x @ matrix for matrix in matrices)


def words() -> list[str]:
    return [token.strip() for token in recorded()["tokens"]]


# --------------------------------------------------------------------- left page


def left_page() -> Markup:
    """The cube above, the numbers of one head below."""
    numbers_part, height = spreadsheet(566)
    return picture(760, height, *cube(), *numbers_part)


def at(x: float, y: float, across: float, down: float, deep: float = 0.0):
    """A point of the isometric drawing, whose origin is (x, y)."""
    return (
        x + LEAN * (across + deep),
        y + down + RISE * (across - deep),
    )


def polygon(points, fill: str, opacity: float = 1.0, stroke: str = "rule") -> Markup:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
    return tag(
        "path",
        d=path,
        fill=fill,
        fill_opacity=f"{opacity:g}",
        stroke=paint(stroke),
        stroke_width=0.8,
        stroke_linejoin="round",
    )


def sheet(
    x: float,
    y: float,
    values: np.ndarray,
    color: str,
    cell: tuple[float, float],
    *,
    deep: float = 0.0,
    cuts: int = 1,
    lit: bool = True,
) -> list[Markup]:
    """A (T, width) sheet; the larger a number, the fuller its cell.

    cuts: into so many equal slices, drawn as lines. Not lit: paper, without numbers.
    """
    rows, columns = values.shape
    wide, high = columns * cell[0], rows * cell[1]
    corners = [(0, 0), (wide, 0), (wide, high), (0, high)]
    outline = [at(x, y, across, down, deep) for across, down in corners]
    body = [polygon(outline, paint("paper"), 1, color)]
    if lit:
        body += shaded(x, y, values, color, cell, deep)
    else:
        body.append(polygon(outline, paint(color), 0.1, color))
    for cut in range(1, cuts):
        across = wide * cut / cuts
        (x1, y1), (x2, y2) = (
            at(x, y, across, -4, deep),
            at(x, y, across, high + 4, deep),
        )
        line = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        body.append(tag("line", stroke=paint("ink"), stroke_width=1.3, **line))
    return body


def shaded(x, y, values, color, cell, deep) -> list[Markup]:
    """One path for each of six shades, by the size of the numbers."""
    size = np.abs(values)
    levels = np.minimum((size / (np.quantile(size, 0.97) + 1e-9) * 6).astype(int), 5)
    paths = []
    for level in range(1, 6):
        strokes = []
        for row, column in np.argwhere(levels == level):
            left, top = column * cell[0], row * cell[1]
            a = at(x, y, left, top, deep)
            b = at(x, y, left + cell[0], top, deep)
            strokes.append(
                f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"
                f"v{cell[1]:g}L{a[0]:.1f} {a[1] + cell[1]:.1f}Z"
            )
        paths.append(
            tag(
                "path",
                d="".join(strokes),
                fill=paint(color),
                fill_opacity=f"{0.16 * level:.2f}",
            )
        )
    return paths


def cube() -> list[Markup]:
    """One sheet becomes three, and each is cut into the slices of the heads."""
    record = recorded()
    x, *parts = projected()
    heads, width = record["n_heads"], record["head_width"]
    lit = record["shown"]["head"]
    high = 13.4
    tokens, d_model = x.shape
    body: list[Markup] = []

    # 1: the sheet
    left, top, thin = 64, 112, 2.2
    body += sheet(left, top, x, "other", (thin, high))
    for row, word in enumerate(words()):
        place = top + (row + 0.8) * high
        body.append(label(word, left - 6, place, "end", color="ink", font_size=11.5))
    right, low = at(left, top, d_model * thin, tokens * high)
    body += [
        caption("1 · one sheet", 118, 26),
        label(f"X: {tokens} tokens, {d_model} wide", 118, 43, "middle"),
        axis(
            at(left, top, 0, tokens * high + 12), (right, low + 12), "width D", -56, 16
        ),
        arrow((right + 8, 270), (right + 38, 270)),
    ]

    # 2: three sheets, cut
    left = 244
    wide = d_model * thin
    for index in (2, 1, 0):
        _, name, color = PARTS[index]
        whole = np.zeros((tokens, d_model))
        whole[:, lit * width : (lit + 1) * width] = parts[index]
        deep = 48 * index
        body += sheet(left, top + 20, whole, color, (thin, high), deep=deep, cuts=heads)
        corner = at(left, top + 20, 0, 0, deep)
        body.append(
            label(name, corner[0] + 3, corner[1] - 6, color=color, font_weight=700)
        )
    start, end = (
        at(left, top + 20, wide, tokens * high, 0),
        at(left, top + 20, wide, tokens * high, 96),
    )
    body += [
        caption("2 · three sheets", 342, 26),
        label("X times three matrices", 342, 43, "middle"),
        axis((start[0] + 4, start[1] + 8), (end[0] + 4, end[1] + 8), "q, k, v", 12, 8),
    ]
    body.append(arrow((end[0] + 10, 270), (end[0] + 40, 270)))

    # 3: for each of the three, a cube of heads; one slice is pulled out
    left, cell, small, apart = 586, 4.6, high * 0.58, 21
    for index, (_, name, color) in enumerate(PARTS):
        corner = top - 6 + index * 126
        for head in reversed(range(heads)):
            if head != lit:
                body += sheet(
                    left,
                    corner,
                    parts[index],
                    color,
                    (cell, small),
                    deep=apart * head,
                    lit=False,
                )
        body += sheet(left, corner, parts[index], color, (cell, small), deep=-42)
        start = at(left, corner, 0, small * tokens / 2, -42)
        body.append(
            label(name, start[0] - 8, start[1] + 5, "end", color, font_weight=700)
        )
    start = at(left, corner, width * cell, small * tokens, 0)
    end = at(left, corner, width * cell, small * tokens, apart * (heads - 1))
    shift = 6
    body += [
        caption(f"3 · cut into {heads} heads", 628, 26),
        label(f"{tokens} tokens, {width} wide each", 628, 43, "middle"),
        axis(
            (start[0] + shift, start[1] + shift),
            (end[0] + shift, end[1] + shift),
            "heads",
            28,
            10,
        ),
        axis(
            at(left, corner, 0, small * tokens + 8, -42),
            at(left, corner, width * cell, small * tokens + 8, -42),
            "width K",
            -44,
            14,
        ),
        label(f"in color: head {record['shown']['label']}", 628, 60, "middle"),
    ]
    return body


def axis(start, end, name: str, dx: float, dy: float) -> Markup:
    """A line with the name of what runs along it."""
    (x1, y1), (x2, y2) = start, end
    return tag(
        "g",
        tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=paint("quiet")),
        label(name, (x1 + x2) / 2 + dx, (y1 + y2) / 2 + dy, font_size=11.5),
    )


# ------------------------------------------------------- the numbers of one head


def said_before(row: int) -> list[int]:
    """The places, up to `row`, where the token that comes next has been said."""
    names = words()
    after = names[row + 1] if row + 1 < len(names) else None
    return [place for place in range(row + 1) if names[place] == after]


def asking() -> int:
    """The row that is followed: the first that looks mostly at what comes next."""
    weights = weights_at(-1) / 255
    rows = range(len(words()))
    return next(row for row in rows if weights[row, said_before(row)].sum() > 0.5)


def spreadsheet(top: float) -> tuple[list[Markup], float]:
    """One query against all keys, number by number; then the mix of the values."""
    _, q, k, v = projected()
    names, row = words(), asking()
    width = q.shape[1]
    seen = row + 1
    products = k[:seen] @ q[row]
    scores = products / math.sqrt(width)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()

    left, wide, high = 92, 33.0, 17.0
    columns = left + width * wide
    body = [
        label(
            f"4 · token {row + 1}, “{names[row]}”, asks, with its {width} numbers",
            left,
            top,
            color="ink",
            font_weight=600,
        ),
        line_of(q[row], names[row] + "?", left, top + 12, (wide, high), QUERY),
        label("its query q", columns + 8, top + 24, color=QUERY, font_weight=600),
        label(
            f"and {seen} keys answer: multiply column by column, add up, "
            f"divide by √{width} = {math.sqrt(width):g}",
            left,
            top + 50,
            font_size=12,
        ),
        label("score", columns + 42, top + 50, "end", color="ink", font_size=12),
        label("weight", columns + 92, top + 50, "end", color=RESULT, font_size=12),
    ]
    y = top + 57
    for j in range(seen):
        body.append(line_of(k[j], names[j], left, y, (wide, high), KEY))
        middle = y + high / 2 + 4
        body.append(
            tag(
                "rect",
                x=columns + 50,
                y=y + 1,
                width=round(45 * float(weights[j]), 1) + 0.5,
                height=high - 2,
                fill=paint(RESULT),
                fill_opacity=0.35,
            )
        )
        texts = ((scores[j], 42, "ink"), (weights[j], 92, RESULT))
        for value, place, color in texts:
            body.append(
                label(
                    signed(value, 2),
                    columns + place,
                    middle,
                    "end",
                    color=color,
                    font_size=11.5,
                )
            )
        y += high
    y += 26
    best = np.argsort(-weights, kind="stable")[:3]
    body.append(
        label(
            "then each value counts as much as its weight says: here the three "
            "heaviest, and the sum of all",
            left,
            y - 7,
            font_size=12,
        )
    )
    for j in best:
        body.append(line_of(v[j], names[j], left, y, (wide, high), VALUE))
        text = f"× {weights[j]:.2f}"
        body.append(
            label(text, columns + 92, y + 13, "end", color=RESULT, font_size=11.5)
        )
        y += high
    mixed = weights @ v[:seen]
    y += 5
    body.append(line_of(mixed, "sum", left, y, (wide, high), RESULT))
    body.append(
        label("it gets", columns + 92, y + 13, "end", color=RESULT, font_weight=600)
    )
    return body, y + high + 6


def line_of(values, name: str, x: float, y: float, cell, color: str) -> Markup:
    """A row of numbers in cells, filled by their size, with a name before it."""
    wide, high = cell
    most = max(1e-9, float(np.abs(values).max()))
    parts = [label(name, x - 7, y + high / 2 + 4, "end", color="ink", font_size=12)]
    for column, value in enumerate(values):
        left = x + column * wide
        share = 0.62 * abs(float(value)) / most
        parts.append(
            tag(
                "rect",
                x=left,
                y=y,
                width=wide,
                height=high,
                fill=paint(color),
                fill_opacity=f"{share:.2f}",
                stroke=paint("rule"),
                stroke_width=0.7,
            )
        )
        parts.append(
            label(
                signed(value, 1),
                left + wide / 2,
                y + high / 2 + 3.8,
                "middle",
                color="ink",
                font_size=10.5,
            )
        )
    return tag("g", *parts)


def signed(value: float, digits: int) -> str:
    """A number with a real minus sign, and no minus before nothing.

    >>> signed(-1.25, 1), signed(-0.01, 1)
    ('−1.2', '0.0')
    """
    text = f"{float(value):.{digits}f}"
    return "0." + "0" * digits if float(text) == 0 else text.replace("-", "−")


# -------------------------------------------------------------------- right page


def weights_at(index: int) -> np.ndarray:
    shown = recorded()["shown"]
    return attention().weights[index][shown["layer"], shown["head"]]


def right_page() -> Markup:
    """The same head and sentence at five moments, the last one large."""
    steps = attention().steps
    small, gap, top = 139.0, 15.6, 46
    body = []
    for index, step in enumerate(steps):
        x = 1 + index * (small + gap)
        body += moment(index, step, x, top, small)
    y = top + small + 92
    body += [*large(y), *reading(y)]
    return picture(760, int(y + 542), *body)


def moment(index: int, step: int, x: float, top: float, size: float) -> list[Markup]:
    """One small map with its step above and what was measured below."""
    record = recorded()
    shown = record["shown"]
    head = next(row for row in record["heads"] if row["label"] == shown["label"])
    length = len(record["tokens"])
    lines = (
        ("loss", f"{record['losses'][index]:.2f}"),
        ("entropy", f"{head['entropy'][index]:.2f}"),
        ("things", f"{head['thing'][index]:.2f}"),
    )
    body = [
        label(
            f"step {step:,}",
            x + size / 2,
            top - 12,
            "middle",
            "ink",
            font_weight=700,
            font_size=15,
        ),
        frame(x, top, size),
        placed(weights_at(index), x, top, size / length),
    ]
    for row, (name, value) in enumerate(lines):
        y = top + size + 20 + 18 * row
        body.append(label(name, x + 6, y))
        body.append(label(value, x + size - 6, y, "end", "ink", font_weight=600))
    return body


def placed(weights: np.ndarray, x: float, y: float, cell: float) -> Markup:
    move = f"translate({x:.2f} {y:.2f}) scale({cell:.4f})"
    return tag("g", cells(weights), transform=move, shape_rendering="crispEdges")


def frame(x: float, y: float, size: float) -> Markup:
    place = {"x": x, "y": y, "width": size, "height": size}
    return tag("rect", fill="none", stroke=paint("rule"), **place)


def large(top: float) -> list[Markup]:
    """The last moment, with tokens on both sides and the larger weights written in."""
    weights, names = weights_at(-1), words()
    cell, left = 28.4, 54.0
    y = top + 52
    body = [frame(left, y, cell * len(names)), placed(weights, left, y, cell)]
    for index, name in enumerate(names):
        middle = (index + 0.5) * cell
        body.append(label(name, left - 7, y + middle + 4.5, "end", "ink"))
        turn = f"translate({left + middle + 4.5:.1f} {y - 7:.1f}) rotate(-60)"
        body.append(label(name, 0, 0, transform=turn, color="ink"))
    for row, column in np.argwhere(weights >= 0.25 * 255):
        share = weights[row, column] / 255
        body.append(
            label(
                f"{share:.2f}"[1:] if share < 0.995 else "1",
                left + (column + 0.5) * cell,
                y + (row + 0.5) * cell + 4,
                "middle",
                "paper" if share >= 0.3 else "ink",
                font_size=11,
            )
        )
    body.append(
        label("looked at", left + cell * len(names), y - 40, "end", font_size=12)
    )
    return body


def reading(top: float) -> list[Markup]:
    """Beside it: where each token of the second half looks most."""
    weights, names = weights_at(-1), words()
    x, y = 556, top + 66
    step = attention().steps[-1]
    body = [
        label(f"step {step:,}, row by row", x, y, color="ink", font_weight=700),
        label("who looks most at whom", x, y + 18, font_size=12),
    ]
    y += 46
    for row in range(4, len(names)):
        column = int(weights[row].argmax())
        text = f"{names[row]} → {names[column]}"
        share = weights[row, column] / 255
        repeats = column in said_before(row)
        color = RESULT if repeats else "ink"
        weight = 700 if repeats else None
        body.append(label(text, x, y, color=color, font_weight=weight))
        body.append(label(f"{share:.2f}", x + 150, y, "end", color=color))
        y += 21
    body += [
        label("purple: at the very word", x, y + 16, color=RESULT, font_size=12),
        label("that comes next in the text", x, y + 32, color=RESULT, font_size=12),
    ]
    legend = str(ramp_legend()).replace(
        "<svg ", f'<svg x="{x - 12}" y="{y + 62}" width="210" height="26" ', 1
    )
    body.append(Markup(legend))
    body.append(label("weight", x, y + 56, font_size=12))
    return body
