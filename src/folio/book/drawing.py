"""`{drawing}` makes a figure by code, `{recorded}` prints one that a run left."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from folio.book import recorded
from folio.book.nodes import drawing
from folio.viz.color import palette


class DrawingError(ValueError):
    """A drawing that can't be made; the message says why."""


class Drawing(SphinxDirective):
    """A numbered figure: what a function of `figures/` draws, and its caption.

    The argument is a call with plain values: `system.draw("attention")`.
    """

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {
        "name": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "left": directives.flag,  # in print, on a left page: it faces what follows
    }

    def run(self) -> list[nodes.Node]:
        if not self.options.get("alt"):
            raise self.error("a figure needs :alt: for those who cannot see it")
        try:
            svg = self.draw()
        except (DrawingError, recorded.RecordError) as error:
            raise self.error(str(error)) from None
        picture = drawing(svg=filled(svg), alt=self.options["alt"])
        children, _ = self.parse_inline(" ".join(self.content))
        children += self.provenance()
        figure = nodes.figure("", picture, nodes.caption("", "", *children))
        if "left" in self.options:
            figure["classes"].append("left-page")
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]

    def draw(self) -> str:
        folder = Path(self.env.srcdir) / "figures"
        for path in folder.glob("*.py"):
            self.env.note_dependency(str(path))
        return call(self.arguments[0], folder)

    def provenance(self) -> list[nodes.Node]:
        return []


class Recorded(Drawing):
    """The drawing NAME.svg that an experiment left, and the command that made it."""

    def draw(self) -> str:
        base = recorded.folder_of(self.arguments[0], Path(self.env.srcdir))
        path = base.with_name(base.name + ".svg")
        if not path.is_file():
            raise DrawingError(f"no drawing {path.name!r} in {path.parent.name}/")
        self.env.note_dependency(str(path))
        return path.read_text(encoding="utf-8")

    def provenance(self) -> list[nodes.Node]:
        source = Path(self.env.srcdir)
        path, record = recorded.load(self.arguments[0], source)
        self.env.note_dependency(str(path))
        day = record.get("date", "")[:10]
        return [
            nodes.Text(" Recorded by "),
            nodes.literal("", record.get("command", "")),
            nodes.Text(f", {day}." if day else "."),
        ]


def call(text: str, folder: Path) -> str:
    """What `module.function(values)` draws, with modules of `folder`."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        node = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        module, function = node.func.value.id, node.func.attr
        values = [ast.literal_eval(value) for value in node.args]
        named = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
    except (AttributeError, ValueError, SyntaxError):
        raise DrawingError(
            f"{text!r}: write module.function(values), the module in figures/"
        ) from None
    drawer = getattr(_load(folder / f"{module}.py"), function, None)
    if drawer is None:
        raise DrawingError(f"no {function!r} in figures/{module}.py")
    return str(drawer(*values, **named))


def _load(path: Path):
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.py")))
        raise DrawingError(f"no figures/{path.name}; there: {known or 'nothing'}")
    name = f"book_figures_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # figures may share helpers
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def filled(svg: str) -> str:
    """The drawing, checked: SVG, and no color but those that have a meaning."""
    svg = svg.strip()
    if not svg.startswith("<svg"):
        raise DrawingError(f"not an SVG: {svg[:40]!r}")
    known = palette("light")
    for name in re.findall(r"var\(--([a-z0-9-]+)\)", svg):
        if name not in known:
            raise DrawingError(f"no color means {name!r}; see folio.viz.color")
    return svg
