"""The parts every page is made of: head, sections, figures, tables.

A page is one file that asks the network for nothing. Its policy line forbids it to
(`default-src 'none'`) and lets no script run but ours, by its hash: even if an escape
were forgotten somewhere, what a model wrote could not act.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from folio.viz.color import paint, style_sheet
from folio.viz.markup import Markup, data_block, escape, join, tag
from folio.viz.numerals import exact
from folio.viz.svg import Series, line_chart


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Section:
    """A part of a page: `key` is its address in the page, `lead` its first sentence."""

    key: str
    title: str
    body: Markup
    lead: str = ""


def page(
    title: str, eyebrow: str, summary: str, opening: Markup, sections: list[Section]
) -> str:
    """The whole document."""
    script = f"{_asset('views.js')}\n{_asset('page.js')}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content="folio"),
        tag("title", f"{title} · Folio"),
        tag("style", Markup(style_sheet() + styles())),
    )
    main = tag("main", *(_section(section) for section in sections))
    body = tag(
        "body",
        _bar(sections),
        _header(title, eyebrow, summary, opening),
        main,
        tag("footer", "Made by Folio. This page is one file and needs no network."),
        tag("script", Markup(script)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def styles() -> str:
    """The sheets of a page: its frame, and the views in it."""
    return "\n".join(map(_asset, ("page.css", "views.css", "tip.css")))


def _bar(sections: list[Section]) -> Markup:
    links = [tag("a", s.title, href=f"#{s.key}") for s in sections]
    switch = tag("button", "◐", type="button", id="theme", aria_label="light or dark")
    mark = tag("a", "Folio", href="#top", class_="mark")
    return tag("nav", tag("div", mark, tag("div", *links, class_="links"), switch))


def _header(title: str, eyebrow: str, summary: str, opening: Markup) -> Markup:
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow"),
        tag("h1", title),
        tag("p", summary, class_="summary") if summary else None,
        opening,
        id="top",
    )


def _section(section: Section) -> Markup:
    lead = tag("p", section.lead, class_="lead") if section.lead else None
    title = tag("h2", section.title)
    return tag("section", title, lead, section.body, id=section.key)


def headline(numbers: Sequence[tuple[str, str, str]]) -> Markup:
    """The few numbers that matter: (name, value, remark) each."""
    boxes = [
        tag("div", tag("dt", name), tag("dd", value), tag("dd", note, class_="note"))
        for name, value, note in numbers
    ]
    return tag("dl", *boxes, class_="headline")


@dataclass(frozen=True)
class View:
    """One way to look at a chart. `choices` are its places on the chart's switches."""

    series: list[Series]
    x_label: str = "step"
    x_log: bool = False
    y_log: bool = False
    x_range: tuple[float, float] | None = None
    choices: tuple[int, ...] = ()


def chart(
    key: str,
    title: str,
    views: Sequence[View],
    *,
    caption: str = "",
    switches: Sequence[Sequence[str]] = (),
    small: bool = False,
    link: str | None = None,
    legend: Sequence[tuple[str, str]] = (),
) -> Markup:
    """A chart with its title, its switches and a read-out under the pointer.

    Large charts are drawn twice, wide and narrow, and the style sheet shows the one
    that fits, so that letters stay readable on a phone. Charts with the same `link`
    move together. `legend` says what is what: (color, name) each.
    """
    head = tag(
        "div",
        tag("h3", title),
        *(_switch(f"{key}-{n}", names) for n, names in enumerate(switches)),
        class_="chart-head",
    )
    names = tag("p", *(swatch(*one) for one in legend), class_="legend")
    drawn = [_view(view, title, small, link) for view in views]
    note = tag("figcaption", caption) if caption else None
    parts = [head, names if legend else None, *drawn, note]
    return tag("figure", *parts, class_="chart small" if small else "chart")


def _switch(key: str, names: Sequence[str]) -> Markup:
    """Buttons of which one is chosen; they work without a script (see page.css)."""
    which = "second" if key.endswith("-1") else "first"
    options = [
        tag(
            "label",
            tag("input", type="radio", name=key, value=str(index), checked=index == 0),
            tag("span", name),
        )
        for index, name in enumerate(names)
    ]
    return tag("div", *options, class_=f"switch {which}", role="radiogroup")


def _view(view: View, title: str, small: bool, link: str | None) -> Markup:
    options = {
        "x_label": view.x_label,
        "x_log": view.x_log,
        "y_log": view.y_log,
        "x_range": view.x_range,
        "labels": not small,
        "description": title,
    }
    if small:
        drawings = [line_chart(view.series, width=430, height=220, **options)]
    else:
        wide = line_chart(view.series, **options)
        narrow = line_chart(view.series, width=430, height=330, **options)
        drawings = [
            tag("div", wide, class_="wide"),
            tag("div", narrow, class_="narrow"),
        ]
    choices = {f"data_choice{n}": choice for n, choice in enumerate(view.choices)}
    return tag(
        "div",
        *drawings,
        tag("p", Markup("&#160;"), class_="readout"),
        data_block(_hover_data(view)),
        class_="view",
        data_link=link,
        **choices,
    )


def _hover_data(view: View) -> dict:
    """What the read-out says: the lines that are labeled, at most 800 points each."""
    filled = [line.thinned(800) for line in view.series if len(line.y)]
    lines = [line for line in filled if not line.raw] or filled
    return {
        "clock": view.x_label,
        "lines": [
            {
                "name": line.name,
                "color": line.color,
                "x": [_rounded(value) for value in np.asarray(line.x).tolist()],
                "y": [_rounded(value) for value in np.asarray(line.y).tolist()],
            }
            for line in lines
        ],
    }


def _rounded(value: float) -> float | None:
    """Five digits; what is not finite becomes null, which JSON can say."""
    if not np.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")


def table(
    columns: Sequence[object], rows: Sequence[Sequence[object]], key: bool = True
) -> Markup:
    """A table that scrolls sideways when it must; numbers stand at the right."""
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = [
        tag("tr", *(_cell(v, key and not n) for n, v in enumerate(r))) for r in rows
    ]
    inner = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", inner, class_="table")


def _cell(value: object, first: bool) -> Markup:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    content = value if isinstance(value, Markup) else exact(value)
    if first:
        return tag("th", content, scope="row")
    return tag("td", content, class_="number" if is_number else None)


def definitions(pairs: Mapping[str, object]) -> Markup:
    """Names and values, side by side."""
    rows = [
        tag("div", tag("dt", name), tag("dd", _value(value)))
        for name, value in pairs.items()
    ]
    return tag("dl", *rows, class_="pairs")


def _value(value: object) -> Markup:
    if isinstance(value, (list, tuple)):
        return join([_value(item) for item in value], ", ")
    if isinstance(value, bool):
        return escape(str(value).lower())
    if isinstance(value, float):
        return escape(f"{value:g}" if len(f"{value:g}") < 12 else repr(value))
    return escape(exact(value))


def cards(tables: Mapping[str, Mapping[str, object]]) -> Markup:
    """Several lists of names and values, each under its title."""
    boxes = [
        tag("div", tag("h3", title), definitions(pairs), class_="card")
        for title, pairs in tables.items()
        if pairs
    ]
    return tag("div", *boxes, class_="cards")


def code(text: str) -> Markup:
    """Something to be copied into a terminal."""
    button = tag("button", "copy", type="button", class_="copy")
    return tag("div", tag("pre", tag("code", text)), button, class_="code")


def swatch(color: str, name: str) -> Markup:
    """A name with the color of its line."""
    dot = tag("i", class_="swatch", style=f"background:{paint(color)}")
    return tag("span", dot, name, class_="named")


def anchor(text: str) -> str:
    """A name for an element, from any text.

    >>> anchor("grad_norm / layer 3")
    'grad-norm-layer-3'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"
