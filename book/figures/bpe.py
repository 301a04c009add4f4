"""Figures of the chapter on byte-pair encoding."""

from __future__ import annotations

from itertools import pairwise

from shapes import QUERY, RESULT, VALUE, caption, grid, picture

from folio.text.word_bpe import glue, learn_merges, spell
from folio.viz.markup import Markup, tag
from folio.viz.svg import label

WORDS = {"hat ": 5, "hats ": 2, "that ": 4, "fat ": 1}
MERGES = 4


def counted(words: dict[str, int]) -> dict[tuple[str, ...], int]:
    return {spell(word): count for word, count in words.items()}


def frequency(words: list[tuple[list[str], int]], pair: tuple[str, str]) -> int:
    """How often a pair occurs in words that are spelled so far."""
    return sum(count * list(pairwise(word)).count(pair) for word, count in words)


def merges_by_hand() -> Markup:
    """Four words, spelled as they are after each merge."""
    spelled = [(list(word), count) for word, count in counted(WORDS).items()]
    parts = [label(f"{n} ×", 34, 57 + 34 * i) for i, (_, n) in enumerate(spelled)]
    parts.append(caption("spelled", 132, 22))
    parts += [pieces(70, 40 + 34 * i, w, ()) for i, (w, _) in enumerate(spelled)]
    for step, pair in enumerate(learn_merges(counted(WORDS), MERGES), 1):
        x, y = 254 if step % 2 else 424, 40 if step < 3 else 216
        times = frequency(spelled, pair)
        title = f"{step}: {pair[0]} + {pair[1]}, {times} times"
        parts.append(caption(title, x + 64, y - 18, RESULT))
        spelled = [(glue(word, pair), count) for word, count in spelled]
        for i, (word, _) in enumerate(spelled):
            parts.append(pieces(x, y + 34 * i, word, pair))
    return picture(572, 350, *parts)


def pieces(x: float, y: float, word: list[str], pair: tuple[str, ...]) -> Markup:
    """A word as its pieces; the one just made is lit."""
    cells = []
    for piece in word:
        wide = 14 + 8 * len(piece)
        new = piece == "".join(pair)
        color = (
            RESULT if new else VALUE if len(piece.removesuffix("</w>")) > 1 else QUERY
        )
        cells.append(grid(x, y, [[piece]], color=color, cell=(wide, 26)))
        x += wide
    return tag("g", *cells)
