"""What Sphinx is told: directives, how nodes become HTML, and our builders."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from folio.book import formulas, numbers
from folio.book.cell import CodeCell, run_cells
from folio.book.cite import Bibliography, Cite
from folio.book.drawing import Drawing, Recorded
from folio.book.exercise import Answers, Exercise, Quiz, Solution
from folio.book.nodes import answers, cell, drawing, solution, why
from folio.book.onepage import OnePage
from folio.book.plain import Plain
from folio.book.portable import Markdown, Notebooks
from folio.book.quote import Number, Quote
from folio.viz.color import variables
from folio.viz.markup import escape

MARKER = "```{contents-of-the-book}\n```"


def setup(app) -> dict[str, object]:
    for name, default in {
        "folio_numbers": {},
        "folio_parts": {},
        "folio_trees": "",
        "folio_repository": "",
        "folio_hash": "",
    }.items():
        app.add_config_value(name, default, "env")
    app.add_config_value("folio_kept", "", "")
    app.add_config_value("folio_install", "", "")
    numbers.install(app)
    for name, directive in {
        "quote": Quote,
        "code-cell": CodeCell,
        "drawing": Drawing,
        "recorded": Recorded,
        "exercise": Exercise,
        "solution": Solution,
        "quiz": Quiz,
        "answers": Answers,
        "bibliography": Bibliography,
    }.items():
        app.add_directive(name, directive)
    app.add_role("number", Number())
    app.add_role("cite", Cite())
    app.add_role("citet", Cite())
    for node, visit, depart in (
        (drawing, visit_drawing, None),
        (cell, visit_cell, depart_cell),
        (solution, visit_solution, depart_solution),
        (why, visit_why, depart_why),
        (answers, visit_answers, None),
    ):
        app.add_node(node, html=(visit, depart), **plain_visitors(node))
    inline, display = (formulas.visit_inline, None), (formulas.visit_display, None)
    app.add_html_math_renderer("mathml", inline, display)
    app.connect("source-read", put_toctrees)
    app.connect("doctree-read", run_cells)
    app.connect("doctree-read", formulas.convert)
    app.connect("html-collect-pages", source_pages)
    app.connect("build-finished", write_colors)
    for builder in (OnePage, Markdown, Notebooks):
        app.add_builder(builder)
    return {"version": "1", "parallel_read_safe": False, "env_version": 1}


def plain_visitors(node: type[nodes.Element]) -> dict[str, tuple]:
    """How our own builders write a node: as `Plain` says."""
    visit = getattr(Plain, f"visit_{node.__name__}")
    depart = getattr(Plain, f"depart_{node.__name__}", None)
    names = (builder.name for builder in (OnePage, Markdown, Notebooks))
    return dict.fromkeys(names, (visit, depart))


def put_toctrees(app, document: str, source: list[str]) -> None:
    """The first page holds the contents, where it says so or else at its end."""
    if document != app.config.root_doc:
        return
    text = source[0] if MARKER in source[0] else f"{source[0]}\n\n{MARKER}\n"
    source[0] = text.replace(MARKER, app.config.folio_trees)


def source_pages(app):
    """A page of each file that is quoted, so that the site needs no other site."""
    if app.builder.name != "html" or app.config.folio_repository:
        return
    for shown, path in sorted(getattr(app.env, "folio_sources", {}).items()):
        form = HtmlFormatter(linenos="inline", lineanchors="L", cssclass="highlight")
        code = highlight(Path(path).read_text(encoding="utf-8"), PythonLexer(), form)
        name = f"source/{shown.removesuffix('.py')}"
        body = f"<h1><code>{escape(shown)}</code></h1>\n{code}"
        yield name, {"title": shown, "body": body}, "page.html"


def write_colors(app, error: Exception | None) -> None:
    """The colors that drawings ask for by meaning, as the theme switches them."""
    if error or app.builder.name != "html":
        return
    light, dark = (variables(theme).split(";", 1)[1] for theme in ("light", "dark"))
    text = (
        f"body{{{light}}}\n"
        f"@media screen{{body[data-theme=dark]{{{dark}}}\n"
        "@media (prefers-color-scheme:dark){"
        f"body:not([data-theme=light]){{{dark}}}}}}}\n"
    )
    path = Path(app.outdir) / "_static" / "colors.css"
    path.write_text(text, encoding="utf-8")


# ---- nodes as HTML for browsers ------------------------------------------------------


def visit_drawing(self, node: drawing) -> None:
    label = f'<span class="drawing" role="img" aria-label="{escape(node["alt"])}">'
    box = re.match(r'<svg [^>]*viewBox="0 0 ([\d.]+)', node["svg"])
    size = f'<svg style="max-width:{box[1]}px" ' if box else "<svg "
    self.body.append(f"{label}{node['svg'].replace('<svg ', size, 1)}</span>")
    raise nodes.SkipNode


def visit_cell(self, node: cell) -> None:
    if node["hidden"]:  # only the listing is folded, not what it shows
        listing = node.pop(0)
        self.body.append('<div class="cell"><details><summary>Code</summary>')
        listing.walkabout(self)
        self.body.append("</details>")
    else:
        self.body.append('<div class="cell">')


def depart_cell(self, node: cell) -> None:
    self.body.append("</div>\n")


def visit_solution(self, node: solution) -> None:
    self.body.append('<details class="solution"><summary>Solution</summary>')


def depart_solution(self, node: solution) -> None:
    self.body.append("</details>\n")


def visit_why(self, node: why) -> None:
    self.body.append('<div class="why">')


def depart_why(self, node: why) -> None:
    self.body.append("</div>\n")


def visit_answers(self, node: answers) -> None:
    self.body.append(
        "<p>On this site solutions and answers stand where they are asked for: open a "
        "<em>Solution</em>, choose an answer in a quiz.</p>"
    )
    raise nodes.SkipNode
