"""Chapters have the numbers of SUMMARY.md, through all parts, written or not."""

from __future__ import annotations

import copy

from docutils import nodes
from sphinx.environment.collectors.toctree import TocTreeCollector

_by_part = TocTreeCollector.assign_section_numbers


def install(app) -> None:
    """Sphinx numbers chapters anew in each part: put ours in their place."""
    TocTreeCollector.assign_section_numbers = assign


def assign(collector: TocTreeCollector, env) -> list[str]:
    """Number every section; return the documents in which that changed anything."""
    before = copy.deepcopy(env.toc_secnumbers)
    _by_part(collector, env)
    for document, number in env.config.folio_numbers.items():
        if number is None or document not in env.toc_secnumbers:
            continue
        places = env.toc_secnumbers[document]
        for anchor, old in places.items():
            if old:  # not one of the small sections, which have none
                places[anchor] = (number, *old[1:])
        for node in [env.titles[document], *env.tocs[document].findall(nodes.Element)]:
            if node.get("secnumber"):
                node["secnumber"] = (number, *node["secnumber"][1:])
    after = env.toc_secnumbers
    return [name for name in after if after[name] != before.get(name)]
