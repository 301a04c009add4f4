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
        chapters = [node for node in tree.findall(nodes.Element) if is_chapter(node)]
        for chapter in chapters:
            chapter.parent.remove(chapter)
        for section in list(tree.findall(nodes.section)):  # held nothing but contents
            if len(section) == 1 or not any(c.astext() for c in section[1:]):
                section.parent.remove(section)
        lengthen(tree, self.config.root_doc)
        for chapter in chapters:
            lengthen(chapter, chapter["docname"])
        tree += chapters
        self.name_parts(chapters)
        self.fix_refuris(tree)
        return tree

    def name_parts(self, chapters: list[nodes.Element]) -> None:
        """The name of a part, before the first of its chapters."""
        for chapter in chapters:
            if part := self.config.folio_parts.get(chapter["docname"]):
                name = nodes.container("", nodes.paragraph("", part), classes=["part"])
                chapter.parent.insert(chapter.parent.index(chapter), name)

    def fix_refuris(self, tree: nodes.Node) -> None:
        """`#document-NAME#ID` is where Sphinx would go; `#NAME--ID` is where we go."""
        for node in tree.findall(nodes.reference):
            target = node.get("refuri", "")
            if target.startswith("#document-"):
                document, _, name = target.removeprefix("#document-").partition("#")
                node["refuri"] = "#" + anchor(document, name or "top")

    def assemble_toc_secnumbers(self) -> dict:
        return self.env.toc_secnumbers  # `Plain` looks them up chapter by chapter

    def assemble_toc_fignumbers(self) -> dict:
        return self.env.toc_fignumbers

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


def is_chapter(node: nodes.Element) -> bool:
    """Sphinx puts each document under the table of contents that names it."""
    return node.tagname == "start_of_file"


def lengthen(chapter: nodes.Element, document: str) -> None:
    """Give ids the name of their chapter, and what points to them."""
    for node in chapter.findall(nodes.Element):
        node["ids"] = [anchor(document, name) for name in node.get("ids", [])]
        if "refid" in node:
            node["refid"] = anchor(document, node["refid"])
