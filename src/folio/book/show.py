"""How a cell shows a drawing: in the book, in Jupyter, on Colab."""

from __future__ import annotations

from folio.viz.color import resolve


class Shown:
    """An SVG; `light` stands alone, `drawing` takes its colors from the page."""

    def __init__(self, drawing: str):
        self.drawing, self.light = drawing, resolve(drawing)

    def _repr_html_(self) -> str:
        """What Jupyter asks for."""
        return f'<div style="background:#fdfcf9;padding:8px">{self.light}</div>'


def show(drawing: str) -> Shown:
    """The last line of a cell that draws: `show(heat_map(...))`."""
    return Shown(drawing)
