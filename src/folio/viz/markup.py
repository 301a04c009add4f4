"""HTML and SVG that is escaped unless somebody says otherwise.

A report prints what a model wrote, and a model may write `<script>`. So escaping is
the default: only what `tag` made (or `Markup` vouches for) passes unchanged.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

# What XML 1.0 forbids: control characters but tab and line feed, halves of surrogate
# pairs (a lone one cannot even be written as UTF-8) and the last two code points.
# Carriage returns go too: a parser turns them into line feeds.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

# Elements written `<name .../>`; all others need a closing tag in HTML.
_EMPTY = frozenset(
    {"br", "circle", "col", "hr", "input", "line", "link", "meta", "path", "rect"}
)


class Markup(str):
    """Text that already is HTML or SVG."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """`value` as text that is safe between tags and inside quotes.

    >>> escape('<b> & "x"')
    '&lt;b&gt; &amp; &quot;x&quot;'
    >>> escape(Markup("<b>"))
    '<b>'
    """
    if isinstance(value, Markup):
        return value
    text = number(value) if isinstance(value, float) else str(value)
    return Markup(html.escape(_FORBIDDEN.sub("\ufffd", text), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element. Children and attribute values are escaped; None and False vanish.

    Underscores in attribute names become dashes and a last one is dropped, so that
    Python's own words can be used.

    >>> tag("p", "1 < 2", class_="note", data_step=5)
    '<p class="note" data-step="5">1 &lt; 2</p>'
    >>> tag("circle", r=2.50)
    '<circle r="2.5"/>'
    """
    head = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        value = "" if value is True else value
        head += f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
    if name in _EMPTY:
        return Markup(f"<{head}/>")
    return Markup(f"<{head}>{join(children)}</{name}>")


def join(parts: Any, separator: str = "") -> Markup:
    """Escape every part and put them one after the other; None is left out.

    >>> join([tag("b", "a"), "<", None])
    '<b>a</b>&lt;'
    """
    return Markup(separator.join(escape(part) for part in parts if part is not None))


def number(value: float) -> str:
    """A coordinate with at most two decimals and nothing superfluous.

    >>> [number(v) for v in (3.0, 0.126, -0.001, 120)]
    ['3', '0.13', '0', '120']
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def data_block(value: Any, **attributes: object) -> Markup:
    """Numbers for the page's script, as JSON that no text inside it can close.

    >>> data_block("</script>")
    '<script type="application/json">"\\\\u003c/script\\\\u003e"</script>'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Markup(text), type="application/json", **attributes)
