"""Which token goes to which experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from folio.viz.attention import ramp_legend
from folio.viz.grid import Cell, cell_grid
from folio.viz.markup import Markup, join, tag
from folio.viz.numerals import plain
from folio.viz.tokens import visible

HOW = (
    "Columns are tokens, rows are experts. Framed cells: the router chose this expert, "
    "and the color is how much it counts. Others show what the router thought of them."
)


@dataclass(frozen=True)
class Routing:
    """One layer: `weights[t]` maps the chosen experts of token t to their weights.

    `shares[t][e]` is the router's opinion of every expert.
    """

    layer: int
    weights: Sequence[dict[int, float]]
    shares: Sequence[Sequence[float]]


def routes_view(tokens: Sequence[str], routings: Sequence[Routing]) -> Markup:
    """A grid for every layer that has experts."""
    parts = [tag("p", HOW, class_="lead")]
    for routing in routings:
        name = f"layer {routing.layer + 1}"
        parts.append(tag("h3", name[0].upper() + name[1:]))
        parts.append(_grid(tokens, routing, name))
        parts.append(tag("p", load_sentence(routing), class_="quiet"))
    parts.append(tag("div", ramp_legend(), class_="legend-bar"))
    return join(parts)


def _grid(tokens: Sequence[str], routing: Routing, name: str) -> Markup:
    rows = []
    for expert in range(len(routing.shares[0])):
        cells = []
        for token, weights, shares in zip(
            tokens, routing.weights, routing.shares, strict=True
        ):
            chosen, share = expert in weights, shares[expert]
            said = f"{name}, “{visible(token)}” to expert {expert + 1}: "
            said += f"weight {plain(weights[expert])}, " if chosen else "not chosen, "
            said += f"the router's share {plain(share)}"
            weight = weights[expert] if chosen else share
            text = f"{weight:.2f}".lstrip("0") if chosen else ""
            cells.append(Cell(weight, text, said, chosen))
        rows.append((f"expert {expert + 1}", cells))
    return cell_grid(tokens, rows, description=f"experts of {name}")


def load_sentence(routing: Routing) -> str:
    """How evenly this text was spread.

    >>> load_sentence(Routing(0, [{0: 1.0}, {0: 1.0}, {1: 1.0}], [[1, 0]] * 3))
    'Choices for each expert: 2, 1.'
    """
    counts = [0] * len(routing.shares[0])
    for weights in routing.weights:
        for expert in weights:
            counts[expert] += 1
    return f"Choices for each expert: {', '.join(map(str, counts))}."
