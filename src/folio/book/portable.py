"""A chapter as plain Markdown, and as a notebook that runs from top to bottom."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from sphinx.builders.html import StandaloneHTMLBuilder

from folio.book.nodes import cell
from folio.book.pandoc import convert, filtered
from folio.book.plain import Plain

WRITER = "gfm-tex_math_gfm-raw_html+tex_math_dollars"
MARK = re.compile(r"^CELL(\d+)ENDCELL$", re.MULTILINE)


class Portable(StandaloneHTMLBuilder):
    """What both share: each chapter as plain HTML, handed to `write_chapter`."""

    default_translator_class = Plain
    supported_image_types: ClassVar = ["image/svg+xml", "image/png", "image/jpeg"]
    search = False
    copysource = False
    ending = ".md"

    def init(self) -> None:
        super().init()
        self.out_suffix = self.link_suffix = self.ending  # of links, too

    def handle_page(self, pagename: str, addctx: dict, *rest, **more) -> None:
        if pagename in self.env.found_docs:
            self.write_chapter(pagename, addctx["body"])

    def write_chapter(self, document: str, body: str) -> None:
        raise NotImplementedError

    def path_of(self, document: str) -> Path:
        path = Path(self.outdir) / f"{document}{self.ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self) -> None:
        self.copy_image_files()


class Markdown(Portable):
    """`-b markdown`: every quote, output and figure expanded; any reader opens it."""

    name = "markdown"

    def write_chapter(self, document: str, body: str) -> None:
        text = convert(body, WRITER, *filtered("portable.lua"))
        self.path_of(document).write_text(text, encoding="utf-8")


class Notebooks(Portable):
    """`-b notebooks`: text and cells; the first installs Folio."""

    name = "notebooks"
    ending = ".ipynb"

    def write_doc(self, docname: str, doctree: nodes.document) -> None:
        doctree = doctree.deepcopy()
        self.cells = []
        for node in list(doctree.findall(cell)):
            mark = nodes.paragraph("", f"CELL{len(self.cells)}ENDCELL")
            figures = [n for n in node.children if isinstance(n, nodes.figure)]
            captions = [f[-1].children for f in figures if len(f) > 1]
            self.cells.append(node)
            node.replace_self([mark, *(nodes.paragraph("", "", *c) for c in captions)])
        super().write_doc(docname, doctree)

    def finish(self) -> None:
        super().finish()
        shutil.rmtree(Path(self.outdir) / "figures", ignore_errors=True)  # inside now

    def write_chapter(self, document: str, body: str) -> None:
        text = convert(body, WRITER, *filtered("portable.lua"))
        text = inline_images(text, Path(self.outdir))
        written = [code_cell(self.config.folio_install)]
        for index, part in enumerate(MARK.split(text)):
            if index % 2:
                node = self.cells[int(part)]
                written.append(code_cell(node["code"], bool(node["raises"])))
            elif part.strip():
                written.append(markdown_cell(part.strip()))
        text = json.dumps(notebook(written), indent=1, ensure_ascii=False)
        self.path_of(document).write_text(text + "\n", encoding="utf-8")


def notebook(cells: list[dict]) -> dict:
    """Cells in Jupyter's format, 4.5."""
    for index, one in enumerate(cells):
        one["id"] = f"cell-{index}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def markdown_cell(text: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": lines_of(text)}


def code_cell(text: str, raises: bool = False) -> dict:
    """One that is meant to fail carries the tag with which Jupyter goes on."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": ["raises-exception"]} if raises else {},
        "outputs": [],
        "source": lines_of(text),
    }


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def inline_images(text: str, folder: Path) -> str:
    """Drawings inside the notebook itself, which is then one file."""

    def inside(found: re.Match) -> str:
        path = folder / found[2]
        if not path.is_file():
            return found[0]
        data = base64.b64encode(path.read_bytes()).decode()
        return f"![{found[1]}](data:image/svg+xml;base64,{data})"

    return re.sub(r"!\[([^\]]*)\]\((figures/[^)\s]+\.svg)[^)]*\)", inside, text)
