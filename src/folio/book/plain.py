"""HTML for a converter rather than a browser: bare TeX, no highlighting, no scripts."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

from folio.viz.color import resolve

SEPARATOR = "--"  # between a document's name and an id in it, on one page


def anchor(document: str, name: str) -> str:
    """An id of a chapter, on a page that holds them all.

    >>> anchor("08-attention", "exercises")
    '08-attention--exercises'
    """
    return f"{document.replace('/', '-')}{SEPARATOR}{name}"


class Plain(HTML5Translator):
    """What pandoc reads, with what it should know in classes and data attributes."""

    def visit_literal_block(self, node: nodes.literal_block) -> None:
        options = node.get("highlight_args", {})
        language = node.get("language", "text")
        classes = " ".join([language, *node["classes"]])
        start = options.get("linenostart", "") if node.get("linenos") else ""
        marks = ",".join(map(str, options.get("hl_lines", [])))
        self.body.append(
            f'<pre class="{classes}" data-first="{start}" data-marks="{marks}">'
            f"<code>{html.escape(node.astext())}</code></pre>\n"
        )
        raise nodes.SkipNode

    def visit_math(self, node: nodes.math) -> None:
        self.body.append(f'<span class="tex">{html.escape(node.astext())}</span>')
        raise nodes.SkipNode

    def visit_math_block(self, node: nodes.math_block) -> None:
        number = ".".join(map(str, self.number_of("displaymath", node)))
        name = node["ids"][0] if node["ids"] else ""
        self.body.append(
            f'<div class="formula" id="{name}" data-number="{number}">'
            f"<p>{html.escape(node.astext())}</p></div>\n"
        )
        raise nodes.SkipNode

    def visit_index(self, node: nodes.Element) -> None:
        for _, term, *_ in node["entries"]:
            term = html.escape(term.replace("; ", ", "))
            self.body.append(f'<span class="index" data-term="{term}"></span>')
        raise nodes.SkipNode

    def visit_literal(self, node: nodes.literal) -> None:
        self.body.append(f"<code>{html.escape(node.astext())}</code>")
        raise nodes.SkipNode

    def visit_drawing(self, node: nodes.Element) -> None:
        """A file of its own, named by what is in it, in the light colors of paper."""
        svg = resolve(node["svg"])
        name = hashlib.sha256(svg.encode()).hexdigest()[:16] + ".svg"
        folder = Path(self.builder.outdir) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(svg, encoding="utf-8")
        alt = html.escape(node["alt"])
        self.body.append(f'<img src="figures/{name}" alt="{alt}" />')
        raise nodes.SkipNode

    def visit_cell(self, node: nodes.Element) -> None:
        folded = " folded" if node["hidden"] else ""
        self.body.append(f'<div class="cell{folded}">')

    def depart_cell(self, node: nodes.Element) -> None:
        self.body.append("</div>\n")

    def visit_solution(self, node: nodes.Element) -> None:
        title, solves = node["title"], self.own_id(node["solves"])
        document = self.document_of()
        if not self.config.folio_numbers.get(document):  # whose? among all answers
            chapter = self.builder.env.titles[document].astext()
            title = f"{chapter}, {title.lower()}"
        title = html.escape(title)
        self.body.append(
            f'<div class="solution" data-exercise="{title}" data-solves="{solves}">'
        )

    def visit_why(self, node: nodes.Element) -> None:
        self.body.append(f'<div class="why" data-number="{node["number"]}">')

    def depart_why(self, node: nodes.Element) -> None:
        self.body.append("</div>\n")

    depart_solution = depart_why

    def visit_answers(self, node: nodes.Element) -> None:
        self.body.append('<div class="answers"></div>')
        raise nodes.SkipNode

    def visit_entry(self, node: nodes.entry) -> None:
        """A cell of a table; the side it leans to, where pandoc looks for it."""
        super().visit_entry(node)
        side = re.search(r"text-(left|right|center)", self.body[-1])
        if side:
            style = f' style="text-align:{side[1]}" '
            self.body[-1] = self.body[-1].replace(" ", style, 1)

    def visit_footnote_reference(self, node: nodes.footnote_reference) -> None:
        self.body.append(f'<a class="fnref" href="#{node["refid"]}">*</a>')
        raise nodes.SkipNode

    def visit_footnote(self, node: nodes.footnote) -> None:
        self.body.append(f'<div class="footnote" id="{node["ids"][0]}">')

    def depart_footnote(self, node: nodes.footnote) -> None:
        self.body.append("</div>")

    def visit_label(self, node: nodes.label) -> None:
        raise nodes.SkipNode

    def add_permalink_ref(self, node: nodes.Element, title: str) -> None:
        pass

    # numbers of sections and figures, under ids that may have been made longer

    def document_of(self) -> str:
        return self.docnames[-1]

    def own_id(self, name: str) -> str:
        return name

    def old_id(self, name: str) -> str:
        return name

    def get_secnumber(self, node: nodes.Element) -> tuple[int, ...] | None:
        places = self.builder.env.toc_secnumbers.get(self.document_of(), {})
        names = [f"#{self.old_id(name)}" for name in node.parent["ids"]]
        top = isinstance(node.parent.parent, (nodes.document, type(None)))
        if top or node.parent.parent.tagname == "start_of_file":
            names.append("")
        for name in names:
            if places.get(name):
                return places[name]
        return None

    def number_of(self, kind: str, node: nodes.Element) -> tuple[int, ...]:
        """The number of a figure, table or formula; () without one."""
        known = self.builder.env.toc_fignumbers.get(self.document_of(), {}).get(
            kind, {}
        )
        found = [known.get(self.old_id(name)) for name in node["ids"]]
        return next((number for number in found if number), ())

    def add_fignumber(self, node: nodes.Element) -> None:
        for kind in ("figure", "table"):
            if number := self.number_of(kind, node):
                text = f"{kind.capitalize()} {'.'.join(map(str, number))}"
                self.body.append(f'<strong class="number">{text}.</strong> ')


class OnePagePlain(Plain):
    """The same, of a page that holds all chapters."""

    def own_id(self, name: str) -> str:
        return anchor(self.document_of(), name)

    def old_id(self, name: str) -> str:
        return name.removeprefix(anchor(self.document_of(), ""))
