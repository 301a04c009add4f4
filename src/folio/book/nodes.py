"""What chapters are made of beside Sphinx's own: drawings, cells, solutions."""

from __future__ import annotations

from docutils import nodes


class drawing(nodes.General, nodes.Inline, nodes.Element):
    """An SVG in `svg` whose colors are named by meaning; `alt` says what it shows."""


class cell(nodes.General, nodes.Element):
    """Code that was run: its listing, then its outputs. Attributes as `cells.Cell`."""


class solution(nodes.General, nodes.Element):
    """Folded on the site, an appendix in print; `solves` is the exercise's id."""


class answers(nodes.General, nodes.Element):
    """Where print collects solutions and the answers of quizzes."""


class why(nodes.General, nodes.Element):
    """The answer of a question in a quiz, and its reason."""
