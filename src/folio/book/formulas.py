"""Formulas, set while the book is built: the site needs no script for them.

Inline they are MathML, which every browser of today draws and screen readers read.
Displayed ones are drawn by the typesetter of the print, because a browser without a
font for mathematics, as on many phones, can't stretch a parenthesis.
"""

from __future__ import annotations

import json
import re
import subprocess

from docutils import nodes
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)


def tidy(tex: str) -> str:
    r"""What pandoc's reader of TeX would get wrong, put another way.

    >>> tidy(r"\operatorname{softmax}\!\left(x\right)")
    '\\operatorname{softmax}\\left(x\\right)'
    """
    tex = tex.replace(r"\!", "").replace(r"\dfrac", r"\frac")

    def wide(found: re.Match) -> str:
        return found[0].replace("&", r"&\quad ")

    return re.sub(r"\\begin\{cases\}.*?\\end\{cases\}", wide, tex, flags=re.DOTALL)


def renamed(typesetter: str) -> str:
    """Symbols that pandoc calls by names which the typesetter has given up.

    >>> renamed("a dot.circle b")
    'a dot.o b'
    """
    return typesetter.replace("dot.circle", "dot.o")


def to_mathml(formulas: list[tuple[str, bool]]) -> list[str | None]:
    """MathML of each (TeX, is it displayed), in one call; None where it fails."""
    import pypandoc

    if not formulas:
        return []
    blocks = []
    for tex, display in formulas:
        kind = {"t": "DisplayMath" if display else "InlineMath"}
        blocks.append({"t": "Para", "c": [{"t": "Math", "c": [kind, tidy(tex)]}]})
    tree = {"pandoc-api-version": [1, 23, 1], "meta": {}, "blocks": blocks}
    command = [pypandoc.get_pandoc_path(), "-f", "json", "-t", "html", "--mathml"]
    done = subprocess.run(
        [*command, "--wrap=none"],
        input=json.dumps(tree),
        capture_output=True,
        text=True,
        check=True,
    )
    paragraphs = re.findall(r"<p>(.*?)</p>", done.stdout, flags=re.DOTALL)
    return [_only_math(text) for text in paragraphs]


def to_svg(formulas: list[str]) -> list[str]:
    """Displayed formulas as drawings in the color of the text, a page each."""
    import pypandoc
    import typst

    if not formulas:
        return []
    text = "\n\n".join(f"$${tidy(tex).strip()}$$" for tex in formulas)
    command = [pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "typst"]
    done = subprocess.run(
        [*command, "--wrap=none"],
        input=re.sub(r"\n\s*\n(?!\$\$)", "\n", text),
        capture_output=True,
        text=True,
        check=True,
    )
    typesetter = renamed(done.stdout)
    pages = "\n#pagebreak()\n".join(typesetter.strip().split("\n\n"))
    source = f"{PAGE}\n{pages}\n"
    made = typst.compile(source.encode(), format="svg", ignore_system_fonts=True)
    drawings = [made] if isinstance(made, bytes) else made
    return [_scaled(drawing.decode()) for drawing in drawings]


PAGE = """#set page(width: auto, height: auto, margin: 1pt, fill: none)
#set text(font: "Libertinus Serif", size: 10pt)"""


def _scaled(svg: str) -> str:
    """Sizes in em, so that formulas grow with the text."""
    svg = svg[svg.index("<svg") :].replace('"#000000"', '"currentColor"')
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    wide, high = float(box[1]) / 10, float(box[2]) / 10
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    style = f'style="width:{wide:.2f}em;height:{high:.2f}em"'
    return svg.replace("<svg ", f'<svg {style} aria-hidden="true" ', 1)


def _only_math(text: str) -> str | None:
    found = re.search(r"<math.*</math>", text, flags=re.DOTALL)
    if not found:
        return None
    return spaced(found[0])


def spaced(mathml: str) -> str:
    """A thin space after log, exp and the like, but before parentheses.

    >>> spaced("<mi>log</mi><mo>&#8289;</mo></mrow><mi>p</mi>")
    '<mi>log</mi><mo>&#8289;</mo></mrow><mspace width="0.17em"/><mi>p</mi>'
    """
    applied = r"(<mo>&#8289;</mo></mrow>)(?!<mo[^>]*>[(\[{])"
    return re.sub(applied, r'\1<mspace width="0.17em"/>', mathml)


def convert(app, doctree: nodes.document) -> None:
    """Give every formula of a chapter its MathML; one that can't be read is told of."""
    found = [
        node
        for node in doctree.findall()
        if isinstance(node, (nodes.math, nodes.math_block))
    ]
    wanted = [(n.astext(), isinstance(n, nodes.math_block)) for n in found]
    for node, made in zip(found, to_mathml(wanted), strict=True):
        if made is None:
            logger.warning("no such formula: %s", node.astext(), location=node)
        node["mathml"] = made or ""
    displayed = [node for node in found if isinstance(node, nodes.math_block)]
    drawings = to_svg([node.astext() for node in displayed])
    for node, drawing in zip(displayed, drawings, strict=True):
        node["svg"] = drawing


def visit_inline(self, node: nodes.math) -> None:
    self.body.append(node["mathml"])
    raise nodes.SkipNode


def visit_display(self, node: nodes.math_block) -> None:
    """Centered, its number at the right; it scrolls where a phone is narrow."""
    name = f' id="equation-{node["label"]}"' if node.get("label") else ""
    self.body.append(f'<div class="formula"{name}>{node["svg"]}')
    self.body.append(f'<span class="spoken">{node["mathml"]}</span>')
    if node.get("number"):
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode
