"""How the work was spread over experts while a model learned.

`figures/experts.json` of a run holds the shares of single steps:

    {"layers": ["blocks.0"], "steps": [{"step": 20, "shares": [[0.5, 0.25, 0.25]]}]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from folio.config import UserError
from folio.viz.attention import cells, ramp_legend
from folio.viz.folder import read_object
from folio.viz.markup import Markup, join, tag
from folio.viz.names import part_name
from folio.viz.svg import CHARACTER, FONT, label

HIGH, GAP = 96, 10  # of one map, and between two
MEANING = (
    "Rows are experts, columns are steps of training, and the stronger the color, the "
    "larger an expert's share of all choices."
)


@dataclass(frozen=True)
class Load:
    """`shares` (S, L, E) sum to one over the experts; `layers` has L names."""

    layers: list[str]
    steps: list[int]
    shares: np.ndarray

    def thinned(self, most: int) -> Load:
        """At most `most` steps, evenly chosen; the last one stays."""
        every = math.ceil(len(self.steps) / most)
        keep = slice((len(self.steps) - 1) % every, None, every)
        return Load(self.layers, self.steps[keep], self.shares[keep])


def read_load(path: Path) -> Load | None:
    """The file, checked, or None without it."""
    figure = read_object(path)
    if figure is None:
        return None
    try:
        entries = sorted(figure["steps"], key=lambda entry: entry["step"])
        layers = [str(name) for name in figure["layers"]]
        shares = np.array([entry["shares"] for entry in entries], dtype=float)
        if shares.ndim != 3 or shares.shape[1] != len(layers):
            raise ValueError(f"shares of shape {shares.shape} for {len(layers)} layers")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a record of experts: {error}") from None
    return Load(layers, [entry["step"] for entry in entries], shares)


def load_view(loads: Mapping[str, Load]) -> Markup:
    """The maps with the meaning of their colors."""
    legend = tag("div", ramp_legend(), style="max-width: 18rem")
    return join([load_maps(loads), legend])


def load_maps(loads: Mapping[str, Load], *, width: int = 920) -> Markup:
    """For each named load (a row) and layer (a column), experts against steps."""
    first = next(iter(loads.values()))
    left = 22 + max(len(name) for name in loads) * CHARACTER
    across = (width - left) / max(len(load.layers) for load in loads.values())
    bottom = 22 + len(loads) * (HIGH + GAP)
    text = f"steps {first.steps[0]:,} to {first.steps[-1]:,} →"
    body: list[Any] = [label(text, width - GAP, bottom + 6, "end")]
    for row, (name, load) in enumerate(loads.items()):
        top = 22 + row * (HIGH + GAP)
        body.append(label(name, left - 10, top + HIGH / 2 + 4, "end", "ink"))
        for column, layer in enumerate(load.layers):
            x = left + column * across
            place = (x, top, across - GAP, HIGH)
            body.append(_map(load.shares[:, column].T, *place))
            if not row:
                body.append(label(part_name(layer), x + across / 2, 13, "middle"))
    return tag(
        "svg",
        tag("title", "load of the experts over time"),
        *body,
        class_="chart-svg",
        viewBox=f"0 0 {width} {bottom + 14}",
        role="img",
        font_size=FONT,
    )


def _map(shares: np.ndarray, x: float, y: float, width: float, height: float) -> Markup:
    """Shares (E, S) in a rectangle, in the colors of attention."""
    whole = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    rows, columns = whole.shape
    scale = f"scale({width / columns:.4f} {height / rows:.4f})"
    move = f"translate({x:.2f} {y:.2f}) {scale}"
    return tag("g", cells(whole), transform=move, shape_rendering="crispEdges")
