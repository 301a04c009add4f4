"""Where each token looks: heat maps of attention, growing with training.

Rows are the tokens that look, columns those looked at. Color is the square root of
the weight, so that a weight of 0.04 is already a fifth of the way to the strongest
color: most weights in a sentence of 40 tokens are small, and their differences matter.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from folio.config import UserError
from folio.viz.color import LEVELS, paint
from folio.viz.folder import is_number, read_object
from folio.viz.markup import Markup, data_block, join, tag
from folio.viz.svg import FONT, label
from folio.viz.tokens import visible

LONGEST = 64  # tokens of the sentence that are drawn
HOW = "Move through training with the slider, choose a head, point at a word."
BUDGET = 1_300_000  # bytes of weights in one page; beyond it some steps are left out


@dataclass(frozen=True)
class Attention:
    """Recorded weights: `weights[i]` is (layers, heads, T, T) uint8 at `steps[i]`."""

    tokens: list[str]
    steps: list[int]
    weights: list[np.ndarray]


def pack(step: int, weights: np.ndarray) -> dict[str, Any]:
    """One entry of "steps" in attention.json, from weights of shape (L, H, T, T).

    Weights in 0..1 are stored as whole 255ths: 0.002 of error, a quarter of the size.

    >>> pack(5, np.array([[[[1.0, 0.0], [0.25, 0.75]]]]))
    {'step': 5, 'weights': '/wBAvw==', 'shape': [1, 1, 2, 2]}
    """
    whole = np.rint(np.clip(weights, 0, 1) * 255).astype(np.uint8)
    text = base64.b64encode(whole.tobytes()).decode("ascii")
    return {"step": step, "weights": text, "shape": list(whole.shape)}


def read_attention(path: Path) -> Attention | None:
    """figures/attention.json unpacked and checked, or None without the file."""
    record = read_object(path)
    if record is None:
        return None
    tokens, steps = record.get("tokens"), record.get("steps")
    if not isinstance(tokens, list) or not isinstance(steps, list) or not steps:
        raise UserError(f"{path}: needs the lists 'tokens' and 'steps', not empty")
    unpacked = [_unpack(entry, len(tokens), path) for entry in steps]
    if len({weights.shape for _, weights in unpacked}) > 1:
        raise UserError(f"{path}: the steps differ in shape; record one model only")
    unpacked.sort(key=lambda pair: pair[0])
    tokens = [str(token) for token in tokens[:LONGEST]]
    shown = [weights[:, :, :LONGEST, :LONGEST] for _, weights in unpacked]
    return Attention(tokens, [step for step, _ in unpacked], shown)


def _unpack(entry: Any, length: int, path: Path) -> tuple[int, np.ndarray]:
    step = entry.get("step") if isinstance(entry, dict) else None
    if not is_number(step):
        raise UserError(f"{path}: an entry of 'steps' has no number 'step'")
    shape = entry.get("shape")
    if not isinstance(shape, list) or len(shape) != 4 or shape[2:] != [length] * 2:
        raise UserError(
            f"{path}: step {step}: shape {shape} should be "
            f"[layers, heads, {length}, {length}] for {length} tokens"
        )
    try:
        data = base64.b64decode(entry.get("weights", ""), validate=True)
        return step, np.frombuffer(data, dtype=np.uint8).reshape(shape)
    except (binascii.Error, TypeError, ValueError) as error:
        raise UserError(f"{path}: step {step}: weights don't fit: {error}") from None


def causal(weights: np.ndarray) -> bool:
    """Whether no token looks at a later one; then that half isn't drawn."""
    return not np.triu(weights, 1).any()


def levels(weights: np.ndarray) -> np.ndarray:
    """Weights, uint8, to the nearest of the ramp's colors.

    >>> levels(np.array([0, 3, 64, 255], dtype=np.uint8)).tolist()
    [0, 2, 8, 15]
    """
    return np.rint(np.sqrt(weights / 255.0) * (LEVELS - 1)).astype(int)


def cells(weights: np.ndarray) -> Markup:
    """A (T, T) uint8 matrix as one square unit per weight, origin at the top left.

    Equal neighbors in a row become one stroke and all strokes of a color one path:
    64 × 64 weights take a few kilobytes, and stay sharp in print.
    """
    paths: dict[int, list[str]] = {}
    half = causal(weights)
    for row, line in enumerate(levels(weights)):
        line = line[: row + 1] if half else line
        edges = np.flatnonzero(np.diff(line)) + 1
        starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(line)]
        for start, end in zip(starts, ends, strict=True):
            stroke = f"M{start} {row + 0.5}h{end - start}"
            paths.setdefault(int(line[start]), []).append(stroke)
    return join(
        tag("path", d="".join(strokes), stroke=paint(f"attention-{level}"))
        for level, strokes in sorted(paths.items())
    )


def heat_map(weights: np.ndarray, tokens: Sequence[str], *, width: int = 420) -> Markup:
    """One head, (T, T) uint8, with the tokens on both sides."""
    length, font = len(tokens), FONT
    edge = 10 + min(12, max((len(token) for token in tokens), default=1)) * 6.4
    cell = (width - edge) / length
    font = min(font, cell * 1.1)
    texts = []
    for index, token in enumerate(tokens):
        text, middle = visible(token)[:12], edge + (index + 0.5) * cell
        place = {"font_size": font, "color": "ink"}
        texts.append(label(text, edge - 5, middle + font / 3, "end", **place))
        turn = f"translate({middle + font / 3:.1f} {edge - 5:.1f}) rotate(-90)"
        texts.append(label(text, 0, 0, transform=turn, **place))
    return tag(
        "svg",
        *texts,
        _placed(weights, edge, edge, cell),
        viewBox=f"0 0 {width} {width}",
        role="img",
        aria_label="attention weights of one head",
        class_="heat-map",
    )


def _placed(weights: np.ndarray, x: float, y: float, cell: float) -> Markup:
    move = f"translate({x:.2f} {y:.2f}) scale({cell:.4f})"
    return tag("g", cells(weights), transform=move, shape_rendering="crispEdges")


def head_grid(weights: np.ndarray, *, width: int = 920) -> Markup:
    """All heads of one step, (L, H, T, T) uint8: a row per layer, a column per head."""
    layers, heads, length, _ = weights.shape
    left, top, gap = 58, 20, 8
    size = min((width - left) / heads - gap, 190)
    body = []
    for head in range(heads):
        middle = left + head * (size + gap) + size / 2
        body.append(label(f"head {head + 1}", middle, 13, "middle"))
    for layer in range(layers):
        y = top + layer * (size + gap)
        body.append(label(f"layer {layer + 1}", 0, y + size / 2))
        for head in range(heads):
            x = left + head * (size + gap)
            body.append(_placed(weights[layer, head], x, y, size / length))
    height = math.ceil(top + layers * (size + gap))
    return tag(
        "svg",
        *body,
        viewBox=f"0 0 {math.ceil(left + heads * (size + gap))} {height}",
        role="img",
        aria_label=f"attention weights of {layers} layers with {heads} heads each",
        font_size=FONT,
        class_="head-grid",
    )


def ramp_legend(marks: Sequence[float] = (0, 0.05, 0.25, 0.5, 1)) -> Markup:
    """The colors with the weights they stand for."""
    width, edge = 210, 12
    step = width / LEVELS
    body = []
    for index in range(LEVELS):
        place = {"x": edge + index * step, "y": 0, "width": step + 0.4, "height": 10}
        body.append(tag("rect", fill=paint(f"attention-{index}"), **place))
    for mark in marks:
        place = edge + math.sqrt(mark) * width
        body.append(label(f"{mark:g}", place, 23, "middle"))
    return tag(
        "svg",
        *body,
        viewBox=f"0 0 {width + 2 * edge} 28",
        font_size=11,
        class_="ramp",
        role="img",
        aria_label="colors of attention weights from 0 to 1",
    )


def thinned(record: Attention, budget: int = BUDGET) -> Attention:
    """As many steps as fit into `budget` bytes; the first and the last stay."""
    most = max(2, budget // record.weights[0].size)
    count = len(record.steps)
    if count <= most:
        return record
    keep = sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
    steps = [record.steps[index] for index in keep]
    return Attention(record.tokens, steps, [record.weights[index] for index in keep])


def attention_view(record: Attention) -> Markup:
    """The view that moves: a slider over steps, all heads, one head enlarged.

    The page's script draws it from the embedded weights. On paper and without a script
    the heads of the last step are there as a drawing.
    """
    record = thinned(record)
    layers, heads, _, _ = record.weights[0].shape
    still = tag(
        "div",
        head_grid(record.weights[-1]),
        tag("p", f"All heads at step {record.steps[-1]:,}.", class_="quiet"),
        class_="attention-still",
    )
    live = tag(
        "div",
        tag("p", HOW, class_="lead"),
        _controls(record.steps),
        tag("div", _focus(), _heads(layers, heads), class_="attention-body"),
        _sentence(record.tokens),
        class_="attention-live",
    )
    data = {
        "tokens": [visible(token) for token in record.tokens],
        "steps": record.steps,
        "layers": layers,
        "heads": heads,
        "causal": all(causal(weights) for weights in record.weights),
        "weights": [pack_bytes(weights) for weights in record.weights],
    }
    return tag("div", live, still, data_block(data), class_="attention")


def pack_bytes(weights: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(weights).tobytes()).decode("ascii")


def _controls(steps: Sequence[int]) -> Markup:
    slider = {"min": 0, "max": len(steps) - 1, "value": len(steps) - 1, "step": 1}
    return tag(
        "div",
        tag("button", "▶ play", type="button", class_="play"),
        tag("input", type="range", aria_label="training step", **slider),
        tag("output", f"step {steps[-1]:,}"),
        class_="controls",
    )


def _focus() -> Markup:
    canvas = tag("canvas", role="img", aria_label="attention of the chosen head")
    return tag(
        "div",
        tag("p", "\u00a0", class_="readout", aria_live="polite"),
        canvas,
        ramp_legend(),
        class_="attention-focus",
    )


def _heads(layers: int, heads: int) -> Markup:
    """One button per head; the script draws the head on the button's canvas."""
    cells = [tag("span")]
    cells += [tag("span", str(head + 1), class_="quiet") for head in range(heads)]
    for layer in range(layers):
        cells.append(tag("span", str(layer + 1), class_="quiet"))
        for head in range(heads):
            name = f"layer {layer + 1}, head {head + 1}"
            canvas = tag("canvas")
            cells.append(tag("button", canvas, type="button", aria_label=name))
    grid = tag("div", *cells, class_="head-buttons", style=f"--heads:{heads}")
    axes = tag("p", "Rows: layers. Columns: heads. Choose one.", class_="quiet")
    return tag("div", grid, axes, class_="attention-heads")


def _sentence(tokens: Sequence[str]) -> Markup:
    words = [tag("span", visible(token), tabindex="0") for token in tokens]
    return tag("p", *words, class_="sentence")
