"""The whole book as one plain page of HTML: what becomes the PDF and the e-book."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from docutils import nodes
from sphinx.builders.singlehtml import SingleFileHTMLBuilder

from folio.book.plain import OnePagePlain, anchor
from folio.viz.markup import escape


class OnePage(SingleFileHTMLBuilder):
    """`-b onepage`: ids carry their chapter's name, for chapters share many."""

    name = "onepage"
    default_translator_class = OnePagePlain
    supported_image_types: ClassVar = ["image/svg+xml", "image/png", "image/jpeg"]
    copysource = False
    search = False

    def assemble_doctree(self) -> nodes.document:
        tree = super().assemble_doctree()
        for start in tree.findall(lambda node: node.tagname == "start_of_file"):
            self.lengthen(start, start["docname"])
        self.name_parts(tree)
        return tree

    def name_parts(self, tree: nodes.document) -> None:
        """The name of a part, before the first of its chapters."""
        for start in list(tree.findall(lambda node: node.tagname == "start_of_file")):
            if part := self.config.folio_parts.get(start["docname"]):
                name = nodes.container("", nodes.paragraph("", part), classes=["part"])
                start.parent.insert(start.parent.index(start), name)

    def lengthen(self, start: nodes.Element, document: str) -> None:
        """Give the ids of one chapter its name, and what points to them."""
        inner = {
            id(node)
            for other in start.findall(lambda n: n.tagname == "start_of_file")
            if other is not start
            for node in other.findall(nodes.Element)
        }
        for node in start.findall(nodes.Element):
            if id(node) in inner:
                continue
            node["ids"] = [anchor(document, name) for name in node.get("ids", [])]
            if "refid" in node:
                node["refid"] = anchor(document, node["refid"])

    def fix_refuris(self, tree: nodes.Node) -> None:
        """`#document-NAME#ID` is where Sphinx would go; `#NAME--ID` is where we go."""
        for node in tree.findall(nodes.reference):
            target = node.get("refuri", "")
            if target.startswith("#document-"):
                document, _, name = target.removeprefix("#document-").partition("#")
                node["refuri"] = "#" + anchor(document, name or "top")

    def handle_page(self, pagename: str, addctx: dict, *rest, **more) -> None:
        if pagename != self.config.root_doc:
            return
        title = escape(self.config.project)
        text = (
            f"<!doctype html><html><head><title>{title}</title></head>"
            f"<body>{addctx['body']}</body></html>"
        )
        (Path(self.outdir) / "book.html").write_text(text, encoding="utf-8")

    def finish(self) -> None:
        self.finish_tasks.add_task(self.copy_image_files)
        self.finish_tasks.join()
