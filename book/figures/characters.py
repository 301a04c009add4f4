"""Figures of the chapter on characters and bytes."""

from __future__ import annotations

from shapes import KEY, QUERY, RESULT, VALUE, arrow, caption, grid, picture

from folio.viz.markup import Markup
from folio.viz.svg import label

WORD = "hello"
TEXT = "né€"


def two_tables(word: str = WORD) -> Markup:
    """The table of a word's characters, and the word looked up in it."""
    characters = sorted(set(word))
    ids = [[str(characters.index(character)) for character in word]]
    table = [characters, [str(i) for i in range(len(characters))]]
    return picture(
        480,
        120,
        caption("the table", 110, 20),
        grid(30, 34, table[:1], color=KEY, cell=(40, 28)),
        grid(30, 62, table[1:], color=RESULT, cell=(40, 28)),
        caption("the text", 350, 20),
        grid(250, 34, [list(word)], color=QUERY, cell=(40, 28)),
        grid(250, 62, ids, color=RESULT, cell=(40, 28)),
        label("same letter, same number", 350, 110, "middle"),
        narrow=True,
    )


def code_points(text: str = TEXT) -> Markup:
    """Each character of a text, its number in Unicode, and its bytes in UTF-8."""
    parts = [
        caption("character", 60, 20),
        caption("Unicode", 175, 20, "validation"),
        caption("UTF-8, in bits", 345, 20, "gradient"),
        caption("bytes", 545, 20, "rate"),
    ]
    for row, character in enumerate(text):
        y, spelled = 34 + 44 * row, character.encode()
        number = f"U+{ord(character):04X}"
        bits = [[f"{byte:08b}" for byte in spelled]]
        values = [[str(byte) for byte in spelled]]
        parts += [
            grid(40, y, [[character]], color=QUERY, cell=(40, 30)),
            arrow((84, y + 15), (126, y + 15)),
            grid(130, y, [[number]], color=KEY, cell=(90, 30)),
            arrow((224, y + 15), (236, y + 15)),
            grid(240, y, bits, color=RESULT, cell=(76, 30)),
            grid(490, y, values, color=VALUE, cell=(44, 30)),
        ]
    return picture(640, 40 + 44 * len(text), *parts)


def stuffed(character: str = "é") -> Markup:
    """How the bits of one character are shared out over two bytes."""
    bits = f"{ord(character):011b}"
    parts = [
        caption(f"{character} is number {ord(character)}, in eleven bits", 240, 20),
        grid(108, 34, [list(bits[:5])], color=KEY, cell=(24, 28)),
        grid(228, 34, [list(bits[5:])], color=QUERY, cell=(24, 28)),
        arrow((168, 64), (158, 92)),
        arrow((300, 64), (338, 92)),
        grid(30, 96, [list("110")], color="other", cell=(24, 28)),
        grid(102, 96, [list(bits[:5])], color=KEY, cell=(24, 28)),
        grid(250, 96, [list("10")], color="other", cell=(24, 28)),
        grid(298, 96, [list(bits[5:])], color=QUERY, cell=(24, 28)),
        caption(f"byte {character.encode()[0]}", 126, 146, RESULT),
        caption(f"byte {character.encode()[1]}", 346, 146, RESULT),
    ]
    return picture(472, 156, *parts, narrow=True)
