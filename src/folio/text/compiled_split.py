"""The split patterns of bpe.py as compiled loops over UTF-8 bytes (numba).

A regular expression engine spends most of BPE's time. The patterns need only the kind
of each character, one table lookup, so a loop does it ten times sooner. The table is
made with `regex` itself, and tests compare the cuts on all sorts of text.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import regex
from numba import njit

from folio.text.fast_bpe import COMPILED

# A function that only compiled code calls needs no way in from Python.
inner = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)

SYMBOL, LETTER, DIGIT, BLANK, NEWLINE = range(5)  # BLANK: other white space


@cache
def kinds() -> np.ndarray:
    """The kind of each of the 0x110000 code points, as `regex` sees it: uint8."""
    table = np.full(0x110000, SYMBOL, np.uint8)
    everything = "".join(map(chr, range(0x110000)))
    for kind, pattern in (
        (LETTER, r"\p{L}+"),
        (DIGIT, r"\p{N}+"),
        (BLANK, r"\s+"),
        (NEWLINE, r"[\r\n]+"),
    ):
        for match in regex.finditer(pattern, everything):
            table[match.start() : match.end()] = kind
    return table


@inner
def kind_at(text, i, kinds):
    """(kind, length in bytes) of the character at `i`. `text` is valid UTF-8."""
    first = np.int64(text[i])
    if first < 0x80:
        return kinds[first], 1
    if first < 0xE0:
        return kinds[(first & 0x1F) << 6 | text[i + 1] & 0x3F], 2
    second = (first & 0x0F) << 12 | np.int64(text[i + 1] & 0x3F) << 6
    if first < 0xF0:
        return kinds[second | text[i + 2] & 0x3F], 3
    third = (first & 0x07) << 18 | np.int64(text[i + 1] & 0x3F) << 12
    third |= np.int64(text[i + 2] & 0x3F) << 6
    return kinds[third | text[i + 3] & 0x3F], 4


@inner
def run_end(text, i, kinds, kind):
    """Behind the run of characters of `kind` that starts at `i`."""
    while i < len(text):
        here, length = kind_at(text, i, kinds)
        if here != kind:
            break
        i += length
    return i


@inner
def contraction(text, i, any_case):
    """The length of 's 'd 'm 't 'll 've 're at the apostrophe `i`, or 0."""
    if i + 1 >= len(text):
        return 0
    fold = 0x20 if any_case else 0
    one = text[i + 1] | fold
    if one == ord("s") or one == ord("d") or one == ord("m") or one == ord("t"):
        return 2
    if i + 2 >= len(text):
        return 0
    if any_case and text[i + 1] == 0xC5 and text[i + 2] == 0xBF:
        return 3  # U+017F, the long s: an s to whoever ignores case
    two = text[i + 2] | fold
    if one == ord("l") and two == ord("l"):
        return 3
    if two == ord("e") and (one == ord("v") or one == ord("r")):
        return 3
    return 0


@inner
def white_end(text, i, kinds, to_newline):
    r"""Behind white space: `\s*[\r\n]+` if to_newline, else `\s+(?!\S)|\s+`."""
    start, last, newline = i, i, -1
    while i < len(text):
        kind, length = kind_at(text, i, kinds)
        if kind < BLANK:
            break
        last = i
        i += length
        if kind == NEWLINE:
            newline = i
    if to_newline and newline >= 0:
        return newline
    # The last blank before something visible is left to lead what follows.
    return last if i < len(text) and last > start else i


@inner
def word_end_gpt2(text, i, kinds):
    """Behind the word that starts at byte `i`, by GPT-2's pattern."""
    if text[i] == ord("'"):
        length = contraction(text, i, False)
        if length:
            return i + length
    kind, length = kind_at(text, i, kinds)
    if text[i] == ord(" ") and i + 1 < len(text):
        following, width = kind_at(text, i + 1, kinds)
        if following < BLANK:
            return run_end(text, i + 1 + width, kinds, following)
    if kind < BLANK:
        return run_end(text, i + length, kinds, kind)
    return white_end(text, i, kinds, False)


@inner
def word_end_gpt4(text, i, kinds, digits):
    """Behind the word that starts at byte `i`, by GPT-4's pattern or Qwen's."""
    if text[i] == ord("'"):
        length = contraction(text, i, True)
        if length:
            return i + length
    kind, length = kind_at(text, i, kinds)
    i += length
    if kind == LETTER:
        return run_end(text, i, kinds, LETTER)
    if kind == DIGIT:
        for _ in range(digits - 1):
            if i < len(text):
                following, width = kind_at(text, i, kinds)
                if following == DIGIT:
                    i += width
        return i
    if kind != NEWLINE and i < len(text):
        following, width = kind_at(text, i, kinds)
        if following == LETTER:
            return run_end(text, i + width, kinds, LETTER)
        if kind == SYMBOL or (following == SYMBOL and text[i - 1] == ord(" ")):
            i = run_end(text, i, kinds, SYMBOL)
            return run_end(text, i, kinds, NEWLINE)
    if kind == SYMBOL:
        return i
    return white_end(text, i - length, kinds, True)


@inner
def word_end(text, i, kinds, digits):
    if digits:
        return word_end_gpt4(text, i, kinds, digits)
    return word_end_gpt2(text, i, kinds)


@njit(cache=True)
def cuts(text, kinds, digits):
    """Where each word ends: (words,) int64."""
    ends = np.empty(len(text), np.int64)
    number, i = 0, 0
    while i < len(text):
        i = word_end(text, i, kinds, digits)
        ends[number] = i
        number += 1
    return ends[:number].copy()


def split(text: str, pattern: str) -> list[str]:
    """`bpe.split`, compiled: for the tests that compare the two."""
    data = text.encode()
    ends = cuts(np.frombuffer(data, np.uint8), kinds(), COMPILED[pattern]).tolist()
    starts = [0, *ends[:-1]]
    return [data[a:b].decode() for a, b in zip(starts, ends, strict=True)]
