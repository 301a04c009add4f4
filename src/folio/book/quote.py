"""`{quote}` prints code of the project as it is; `{number}`, what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective, SphinxRole

from folio.book import recorded, symbols
from folio.book.cells import PACKAGE


def roots(source: Path) -> list[Path]:
    """Where quoted code may lie: the book's own folder, what it lies in, Folio."""
    return [source, source.parent, PACKAGE.parent]


class Quote(SphinxDirective):
    """A symbol of the project, with its line numbers and a link to the file."""

    required_arguments = 1
    option_spec: ClassVar = {
        "emphasize": directives.unchanged_required,
        "from": directives.unchanged_required,
        "to": directives.unchanged_required,
        "no-docstring": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        try:
            quoted = symbols.quote(
                self.arguments[0],
                roots(Path(self.env.srcdir)),
                docstring="no-docstring" not in self.options,
                start=self.options.get("from", ""),
                end=self.options.get("to", ""),
            )
        except symbols.QuoteError as error:
            raise self.error(str(error)) from None
        self.env.note_dependency(str(quoted.path))
        note_source(self.env, quoted)
        box = nodes.container(classes=["quote"])
        box += self.caption(quoted)
        box += [self.listing(piece) for piece in quoted.pieces]
        return [box]

    def caption(self, quoted: symbols.Quoted) -> nodes.Node:
        """Which lines of which file; the link is made when the book is written."""
        lines = f"{quoted.first}–{quoted.last}"
        link = nodes.reference("", "", internal=False, classes=["source"])
        link += [nodes.literal("", quoted.shown), nodes.Text(f", lines {lines}")]
        repository = self.config.folio_repository
        if repository:
            place = f"src/{quoted.shown}#L{quoted.first}-L{quoted.last}"
            link["refuri"] = f"{repository}/blob/main/{place}"
        else:
            up = "../" * self.env.docname.count("/")
            name = quoted.shown.removesuffix(".py")
            link["refuri"] = f"{up}source/{name}.html#L-{quoted.first}"
            link["classes"].append("on-site")
        return nodes.paragraph("", "", link, classes=["quoted"])

    def listing(self, piece: symbols.Piece) -> nodes.Node:
        code = "\n".join(piece.lines)
        block = nodes.literal_block(code, code, language="python", linenos=True)
        block["highlight_args"] = {"linenostart": piece.first}
        if word := self.options.get("emphasize"):
            marked = [i for i, text in enumerate(piece.lines, 1) if word in text]
            block["highlight_args"]["hl_lines"] = marked
        return block


def note_source(env, quoted: symbols.Quoted) -> None:
    """Remember a quoted file, so that the site has a page of it."""
    if not hasattr(env, "folio_sources"):
        env.folio_sources = {}
    env.folio_sources[quoted.shown] = str(quoted.path)


class Number(SphinxRole):
    """`bench/engine:rows.0.tokens_per_s|.0f`, from the file that recorded it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            path, text = recorded.number(self.text, Path(self.env.srcdir))
        except recorded.RecordError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [], [message]
        self.env.note_dependency(str(path))
        return [nodes.inline("", text, classes=["measured"])], []
