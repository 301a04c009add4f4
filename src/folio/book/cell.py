"""`{code-cell}` runs code while the book is built, and prints what it says."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from folio.book import cells
from folio.book.drawing import filled
from folio.book.nodes import cell, drawing
from folio.book.symbols import LONGEST

logger = logging.getLogger(__name__)


class CodeCell(SphinxDirective):
    """Code, then its output; with a caption, its drawing is a numbered figure."""

    has_content = True
    optional_arguments = 1  # the language: always Python
    option_spec: ClassVar = {
        "name": directives.unchanged_required,
        "caption": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "hide": directives.flag,  # folded on the site
        "raises": directives.unchanged_required,  # the error it is to show
    }

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        first = self.lineno + self.content_offset + 1
        for number, text in enumerate(self.content, first):
            if len(text) > LONGEST:
                raise self.error(f"line {number}: over {LONGEST} columns")
        node = cell(raises=self.options.get("raises", ""), code=code)
        node["hidden"] = "hide" in self.options
        node["code_line"] = first
        self.set_source_info(node)
        node += nodes.literal_block(code, code, language="python", classes=["input"])
        if caption := self.options.get("caption"):
            node += self.figure(caption)
        return [node]

    def figure(self, caption: str) -> nodes.Node:
        if not self.options.get("alt"):
            raise self.error("a figure needs :alt: for those who cannot see it")
        picture = drawing(svg="", alt=self.options["alt"])
        children, _ = self.parse_inline(caption)
        figure = nodes.figure("", picture, nodes.caption("", "", *children))
        self.set_source_info(figure)
        self.add_name(figure)
        return figure


def run_cells(app, doctree: nodes.document) -> None:
    """Run a chapter's cells and put their outputs behind them."""
    found = list(doctree.findall(cell))
    source = Path(app.srcdir)
    document = app.env.docname
    asked = [cells.Cell(n["code"], n["code_line"], n["raises"]) for n in found]
    kept = Path(app.config.folio_kept)
    for path in cells.own_modules(asked, source):
        app.env.note_dependency(str(path))
    try:
        results = cells.outputs_of(asked, f"{document}.md", kept, source)
    except cells.CellError as error:
        logger.warning("%s", error, location=(document, error.line))
        return
    for node, outputs in zip(found, results, strict=True):
        for output in outputs:
            _add(node, output)


def _add(node: cell, output: cells.Output) -> None:
    if output.kind == "drawing":
        picture = next(node.findall(drawing), None)
        if picture is not None and not picture["svg"]:
            picture["svg"] = filled(output.value)
        else:
            node += nodes.paragraph("", "", drawing(svg=filled(output.value), alt=""))
        return
    text = output.value.rstrip("\n")
    block = nodes.literal_block(text, text, language="text")
    block["classes"] = ["output", output.kind]
    node += block
