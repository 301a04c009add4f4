"""The logit lens: what each layer would say after each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from folio.viz.attention import ramp_legend
from folio.viz.grid import Cell, cell_grid
from folio.viz.markup import Markup, join, tag
from folio.viz.numerals import plain
from folio.viz.tokens import visible

HOW = (
    "Read upwards. A cell has the token that a layer would choose; its color is how "
    "sure that layer is. Framed cells already say what the model says in the end."
)


@dataclass(frozen=True)
class Reading:
    """One layer after one token, in words and numbers."""

    text: str  # the likeliest token
    probability: float
    final: str  # what the model says in the end
    final_probability: float  # of that, here
    rank: int  # how many tokens are likelier than that, here


def lens_view(tokens: Sequence[str], readings: Sequence[Sequence[Reading]]) -> Markup:
    """`readings[r][t]`: after r layers and token t; row 0 is the embedding alone."""
    rows = []
    for number, row in reversed(list(enumerate(readings))):
        name = f"layer {number}" if number else "embedding"
        cells = [
            Cell(one.probability, one.text, _tip(name, token, one), not one.rank)
            for token, one in zip(tokens, row, strict=True)
        ]
        rows.append((name, cells))
    grid = cell_grid(tokens, rows, description="what each layer would say")
    legend = tag("div", ramp_legend(), class_="legend-bar")
    return join([tag("p", HOW, class_="lead"), grid, legend])


def _tip(name: str, token: str, one: Reading) -> str:
    """
    >>> _tip("layer 1", "a", Reading("b", 0.5, "c", 0.125, 2))
    'layer 1 after “a”: “b” 0.5. In the end “c”, here number 3 with 0.125.'
    """
    said = f"{name} after “{visible(token)}”: “{visible(one.text)}”"
    said += f" {plain(one.probability)}."
    if not one.rank:
        return f"{said} That is what the model says in the end."
    there = f"number {one.rank + 1:,} with {plain(one.final_probability)}"
    return f"{said} In the end “{visible(one.final)}”, here {there}."
