"""Figures of the first two chapters: stages, counts, a recorded run; bits, gaps."""

from __future__ import annotations

import json
import statistics
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

from shapes import KEY, QUERY, RESULT, VALUE, arrow, box, caption, grid, picture

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.svg import Series, label, line_chart

BENCH = Path(__file__).resolve().parents[2] / "bench" / "results"
SIX_WORDS = "the cat sat on the mat"

# name: bits of the exponent, bits of the fraction
FORMATS = {"fp32": (8, 23), "tf32": (8, 10), "fp16": (5, 10), "bf16": (8, 7)}


def rows_of(name: str) -> list[dict]:
    """The rows of a benchmark's record."""
    return json.loads((BENCH / f"{name}.json").read_text(encoding="utf-8"))["rows"]


# ---- chapter 1 -----------------------------------------------------------------------


def stages() -> Markup:
    """What each stage reads, and how often its model's answers are right."""
    parts = []
    columns = (
        ("pretraining", "stories,", "millions of tokens", QUERY, ("pretrain",)),
        ("fine-tuning", "questions", "with good answers", KEY, ("sft",)),
        ("alignment", "its own answers,", "judged", RESULT, ("dpo", "ppo", "grpo")),
    )
    for index, (name, first, second, color, runs) in enumerate(columns):
        left = 14 + 186 * index
        parts.append(box(left, 58, 148, 46, name, color=color, lit=True))
        parts.append(label(first, left + 74, 22, "middle"))
        parts.append(label(second, left + 74, 38, "middle"))
        parts.append(arrow((left + 74, 43), (left + 74, 56)))
        if index < 2:
            parts.append(arrow((left + 148, 81), (left + 184, 81)))
        for line, run in enumerate(runs):
            text = f"{right_answers(run):.0%} right"
            if len(runs) > 1:
                text = f"{run.upper()}: {text}"
            place = (left + 74, 128 + 18 * line)
            parts.append(label(text, *place, "middle", color="ink"))
    return picture(548, 176, *parts, narrow=True)


def right_answers(stage: str) -> float:
    """The share of sampled answers that are right, the median of three seeds."""
    rows = [row for row in rows_of("alignment") if row["stage"] == stage]
    return statistics.median(row["sampled_accuracy"] for row in rows)


def counts() -> Markup:
    """Which letter follows which in six words, as a table of counts."""
    pairs = Counter(pairwise(SIX_WORDS))
    letters = list(dict.fromkeys(SIX_WORDS))
    numbers = [[pairs[a, b] for b in letters] for a in letters]
    sums = [sum(row) for row in numbers]
    shares = [
        [n / total for n in row] for row, total in zip(numbers, sums, strict=True)
    ]
    texts = [[str(n) if n else "" for n in row] for row in numbers]
    left, top, wide, high = 84, 46, 34, 22
    heads = [
        label(shown(a), left + wide * (i + 0.5), top - 8, "middle", color="ink")
        for i, a in enumerate(letters)
    ]
    names = [
        label(shown(a), left - 10, top + high * (i + 0.7), "end", color="ink")
        for i, a in enumerate(letters)
    ]
    return picture(
        444,
        284,
        *heads,
        *names,
        caption("what came next", left + wide * len(letters) / 2, 16, VALUE),
        label("seen", 34, top - 8, "middle", color=QUERY, font_weight=600),
        grid(left, top, texts, color=RESULT, cell=(wide, high), shares=shares),
        narrow=True,
    )


def shown(letter: str) -> str:
    return "␣" if letter == " " else letter


def learning() -> Markup:
    """Bits per byte of the recorded runs against steps, and what counting gets."""
    rows = rows_of("tales")
    steps = [point["step"] for point in rows[0]["curve"]]
    every = [[p["val_bits_per_byte"] for p in row["curve"]] for row in rows]
    by_step = list(zip(*every, strict=True))
    counted = statistics.median(row["five_gram"] for row in rows)
    lines = [
        Series(
            "the model",
            steps,
            [statistics.median(values) for values in by_step],
            color="train",
            dots=True,
            low=[min(values) for values in by_step],
            high=[max(values) for values in by_step],
        ),
        Series("counting", steps, [counted] * len(steps), "validation", dashed=True),
    ]
    return line_chart(lines, width=600, height=230, y_label="bits per byte")


# ---- chapter 2 -----------------------------------------------------------------------


def bits_of(value: float, name: str) -> str:
    """Sign, exponent and fraction of the nearest number of that format.

    >>> bits_of(0.1, "bf16")
    '0011110111001101'
    """
    exponent, fraction = FORMATS[name]
    if name == "fp16":
        (number,) = struct.unpack(">H", struct.pack(">e", value))
        return f"{number:016b}"
    (number,) = struct.unpack(">I", struct.pack(">f", value))
    cut = 23 - fraction
    if cut:  # to the nearest; a tie, which 0.1 isn't, would go to the even one
        number = (number + (1 << (cut - 1))) >> cut
    return f"{number:0{1 + exponent + fraction}b}"


def bits() -> Markup:
    """The bits of 0.1 in four formats: sign, exponent, fraction."""
    cell, left, top, high = 15, 54, 30, 31
    parts = []
    for row, (name, (exponent, _)) in enumerate(FORMATS.items()):
        y = top + high * row
        parts.append(label(name, left - 10, y + 16, "end", color="ink"))
        for place, bit in enumerate(bits_of(0.1, name)):
            color = RESULT if place == 0 else KEY if place <= exponent else QUERY
            x = left + cell * place
            parts.append(
                tag(
                    "rect",
                    x=x,
                    y=y,
                    width=cell,
                    height=24,
                    fill=paint(color),
                    fill_opacity="0.22",
                    stroke=paint("rule"),
                )
            )
            middle = x + cell / 2
            parts.append(label(bit, middle, y + 16, "middle", color="ink"))
    parts += [
        label("sign", left, 20, color=RESULT, font_weight=600),
        label("exponent", left + 44, 20, color=KEY, font_weight=600),
        label("fraction", left + 160, 20, color=QUERY, font_weight=600),
    ]
    return picture(548, 152, *parts, narrow=True)


def spacing() -> Markup:
    """Where the numbers of two formats lie behind 1, and how far all of them reach."""
    left, unit = 70.0, 440 / 0.03125
    parts = []
    for y, name, steps in ((42, "bf16", 4), (76, "fp16", 32)):
        parts.append(label(name, left - 14, y + 4, "end", color="ink"))
        parts.append(line(left, y, left + 440, y))
        for step in range(steps + 1):
            x = left + 440 * step / steps
            parts.append(line(x, y - 9, x, y + 9, "ink" if steps == 4 else QUERY))
    at = left + 0.001 * unit
    parts += [
        tag("circle", cx=at, cy=42, r=4, fill=paint(KEY)),
        label("1.001", at + 8, 36, color=KEY, font_weight=600),
        label("1", left, 20, "middle", color="ink"),
        label("1.03125", left + 440, 20, "middle", color="ink"),
    ]
    ranges = (
        ("bf16", -38, 38.5, KEY),
        ("fp16", -4.2, 4.8, QUERY),
    )
    for row, (name, low, high, color) in enumerate(ranges):
        y = 100 + 19 * row
        parts.append(label(name, left - 14, y + 11, "end", color="ink"))
        x, end = (left + 440 * (value + 40) / 80 for value in (low, high))
        place = {"x": x, "y": y, "width": end - x, "height": 14, "rx": 2}
        parts.append(tag("rect", fill=paint(color), **place))
    for power in (-38, -20, 0, 20, 38):
        x = left + 440 * (power + 40) / 80
        parts.append(label(f"1e{power}" if power else "1", x, 156, "middle"))
    return picture(548, 162, *parts, narrow=True)


def line(x1: float, y1: float, x2: float, y2: float, color: str = "quiet") -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", stroke=paint(color), stroke_width=1.2, **ends)
