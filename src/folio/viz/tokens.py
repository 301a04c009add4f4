"""A sentence as the model reads it: its tokens, their ids and their bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.viz.color import TOKENS, paint
from folio.viz.folder import read_object
from folio.viz.markup import Markup, tag
from folio.viz.numerals import plain
from folio.viz.svg import CHARACTER, bar_chart, label

_VISIBLE = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"})
MOST_TOKENS = 400


def visible(text: str) -> str:
    """Spaces and line ends as signs, so that one sees to which token they belong.

    >>> visible(" the\\n")
    '·the⏎'
    """
    return text.translate(_VISIBLE)


def read_tokens(path: Path) -> dict[str, Any] | None:
    """figures/tokens.json checked, or None without the file."""
    record = read_object(path)
    if record is None:
        return None
    tokens = record.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(t, dict) for t in tokens):
        raise UserError(f"{path}: 'tokens' must be a list of objects")
    for index, token in enumerate(tokens):
        kinds = (("id", int), ("text", str), ("bytes", int))
        wrong = [key for key, kind in kinds if not isinstance(token.get(key), kind)]
        if wrong:
            raise UserError(f"{path}: token {index} lacks {', '.join(wrong)}")
    return record


def token_strip(tokens: list[dict[str, Any]]) -> Markup:
    """Colored pieces, each with its id below and one dot per byte.

    `tokens` are {"id": 12, "text": "The", "bytes": 3, "special": false}.
    """
    chips = [_chip(token, index) for index, token in enumerate(tokens[:MOST_TOKENS])]
    more = len(tokens) - MOST_TOKENS
    rest = tag("span", f"… and {more:,} more", class_="quiet") if more > 0 else None
    return tag("div", *chips, rest, class_="tokens")


def _chip(token: dict[str, Any], index: int) -> Markup:
    special, size = token.get("special"), token["bytes"]
    unit = "byte" if size == 1 else "bytes"
    kind = "special token" if special else f"{size} {unit}"
    color = paint(f"token-{index % len(TOKENS)}")
    return tag(
        "span",
        tag("b", visible(token["text"]) or "∅"),
        tag("small", str(token["id"])),
        tag("i", style=f"--bytes:{min(size, 12)}", aria_hidden="true"),
        class_="token special" if special else "token",
        style=None if special else f"background:{color}",
        data_tip=f"“{visible(token['text'])}” is token {token['id']:,}: {kind}",
        tabindex="0",
    )


def token_rows(
    rows: Mapping[str, Sequence[tuple[str, int]]], *, width: int = 620
) -> Markup:
    """One text cut in several ways, as an SVG: a row of (piece, id) for each name.

    Each character has the same width, so equal texts stand below one another.
    """
    left = 12 + max((len(name) for name in rows), default=0) * CHARACTER
    lengths = [sum(len(text) for text, _ in row) for row in rows.values()]
    each = (width - left - 4) / max(1, *lengths)
    parts = []
    for index, (name, row) in enumerate(rows.items()):
        x, y = float(left), 4 + 50 * index
        parts.append(label(name, x - 8, y + 17, "end"))
        for number, (text, id) in enumerate(row):
            place = {"x": x, "y": y, "width": each * len(text), "height": 25}
            fill = paint(f"token-{number % len(TOKENS)}")
            middle = x + place["width"] / 2
            parts.append(tag("rect", fill=fill, stroke=paint("rule"), **place))
            parts.append(label(visible(text), middle, y + 17, "middle", color="ink"))
            parts.append(label(str(id), middle, y + 38, "middle", font_size=9.5))
            x += place["width"]
    box = f"0 0 {width} {50 * len(rows)}"
    return tag("svg", *parts, viewBox=box, font_size=13)


def token_lengths(tokens: list[dict[str, Any]]) -> Markup:
    """How many tokens stand for one byte, two bytes, ...: bars."""
    sizes = Counter(min(t["bytes"], 8) for t in tokens if not t.get("special"))
    longest = max(sizes, default=0)
    names = [
        f"{n}{' or more' if n == 8 else ''} byte{'s' if n > 1 else ''}"
        for n in range(1, longest + 1)
    ]
    counts = [sizes.get(size, 0) for size in range(1, longest + 1)]
    return bar_chart(
        names, counts, width=330, description="tokens by their length in bytes"
    )


def token_summary(record: dict[str, Any]) -> str:
    """Counts in a sentence.

    >>> token_summary({"text": "The cat", "tokens": [{"bytes": 3}, {"bytes": 4}]})
    '7 characters, 7 bytes, 2 tokens: 3.5 bytes per token.'
    """
    ordinary = [t for t in record["tokens"] if not t.get("special")]
    size = sum(token["bytes"] for token in ordinary)
    text = record.get("text")
    characters = f"{len(text):,} characters, " if isinstance(text, str) else ""
    each = plain(size / max(len(ordinary), 1))
    return (
        f"{characters}{size:,} bytes, {len(ordinary):,} tokens: {each} bytes per token."
    )
