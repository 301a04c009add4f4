"""What could come next: how likely by the model, and by the sampler after its cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from folio.viz.color import paint
from folio.viz.markup import Markup, tag
from folio.viz.numerals import plain
from folio.viz.tokens import visible


@dataclass(frozen=True)
class Option:
    """A token, its chances before and after, and why it can't be drawn, if it can't."""

    text: str
    own: float  # by the model
    kept: float  # by the sampler
    reason: str = ""


def options_view(options: Sequence[Option], rest: float = 0.0) -> Markup:
    """A row per token, two bars each: the model's (pale) and the sampler's.

    `rest` is the model's probability of all tokens that are not shown.
    """
    most = max([1e-9, *(max(one.own, one.kept) for one in options)])
    head = tag(
        "p",
        _swatch("other", "the model alone"),
        _swatch("train", "after temperature and cuts: what is drawn"),
        class_="legend",
    )
    rows = [_row(option, most) for option in options]
    more = f"All other tokens together: {plain(rest)}."
    note = tag("p", more, class_="quiet") if rest > 0 else None
    return tag("div", head, tag("ol", *rows, class_="options"), note)


def _swatch(color: str, name: str) -> Markup:
    dot = tag("i", class_="swatch", style=f"background:{paint(color)}")
    return tag("span", dot, name, class_="named")


def _row(option: Option, most: float) -> Markup:
    bars = tag(
        "span",
        _bar(option.own / most, "other"),
        _bar(option.kept / most, "train"),
        class_="option-bars",
        aria_hidden="true",
    )
    own = tag("small", plain(option.own))
    if option.reason:
        kept = tag("small", option.reason, class_="why")
    else:
        kept = tag("b", plain(option.kept))
    return tag(
        "li",
        tag("code", visible(option.text) or "∅"),
        bars,
        tag("span", own, " → ", kept),
        class_="gone" if option.reason else None,
    )


def _bar(share: float, color: str) -> Markup:
    width = f"width:{100 * min(1.0, max(0.0, share)):.2f}%"
    return tag("i", style=f"{width};background:{paint(color)}")
