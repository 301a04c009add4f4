"""`{cite}` names a work, `{bibliography}` lists all that were cited."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

from folio.book import references


class Cite(SphinxRole):
    """{cite}`vaswani2017` is "(Vaswani et al. 2017)", and a link to the work.

    {citet}`vaswani2017` is "Vaswani et al. (2017)", for the middle of a sentence.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = Path(self.env.srcdir) / references.NAME
        self.env.note_dependency(str(path))
        works = references.read(Path(self.env.srcdir))
        if self.text not in works:
            message = f"no work {self.text!r} in {references.NAME}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        work = works[self.text]
        link = addnodes.pending_xref(
            "",
            nodes.inline("", work.named if self.name == "citet" else work.short),
            refdomain="std",
            reftype="ref",
            reftarget=f"ref-{self.text}".lower(),
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )
        return [link], []


class Bibliography(SphinxDirective):
    """Every work of references.toml, by author; a test sees that each is cited."""

    def run(self) -> list[nodes.Node]:
        source = Path(self.env.srcdir)
        self.env.note_dependency(str(source / references.NAME))
        works = references.read(source).values()
        ordered = sorted(works, key=lambda work: (work.authors[0], work.when))
        return [self.entry(work) for work in ordered]

    def entry(self, work: references.Work) -> nodes.Node:
        name = f"ref-{work.key}".lower()
        target = (self.env.docname, name)
        std = self.env.get_domain("std")
        std.anonlabels[name] = target
        std.labels[name] = (*target, work.short)
        place = work.link.removeprefix("https://")
        text = nodes.paragraph(
            "",
            "",
            nodes.Text(f"{work.people} ({work.when}). "),
            nodes.emphasis("", work.title),
            nodes.Text(f". {work.venue}. "),
            nodes.reference("", place, refuri=work.link),
            nodes.Text("."),
        )
        return nodes.container("", text, ids=[name], classes=["work"])
