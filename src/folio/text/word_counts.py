"""How often each word occurs: all that BPE training needs to know about a text.

A text of any size passes through in pieces, so memory grows with the number of
different words only. Special tokens that stand in a training text are boundaries:
they are taken out, and no word (so no merge) reaches across one.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import regex

from folio.config import UserError
from folio.text.parallel import parallel_map

Word = TypeVar("Word", str, bytes)
PIECE = 1 << 23  # characters counted at a time


def read_text(path: Path, size: int = PIECE) -> Iterator[str]:
    """The text of a UTF-8 file in pieces, newlines untouched; errors name the place."""
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with path.open("rb") as file:
        while True:
            block = file.read(size)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                place = offset - pending + error.start
                raise UserError(
                    f"{path}: not UTF-8 at byte {place} ({error.reason}); "
                    f"convert the file or remove that byte"
                ) from None
            offset += len(block)
            if text:
                yield text
            if not block:
                return


def segments(
    pieces: Iterable[str],
    safe_cut: Callable[[str], int],
    special_tokens: Sequence[str],
    size: int = PIECE,
) -> Iterator[str]:
    """One document in segments whose words are the words of the whole.

    It is cut at special tokens, which are dropped, and at safe places elsewhere.

    >>> list(segments(["one<|e", "nd|>two"], len, ["<|end|>"]))
    ['one', 'two']
    """
    by_length = sorted(special_tokens, key=len, reverse=True)
    separator = regex.compile("|".join(map(regex.escape, by_length)) or "(?!)")
    # A special token may have begun at the end of what is known: don't cut there.
    margin = max(map(len, special_tokens), default=1) - 1
    held: list[str] = []
    length, wanted = 0, size
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length < wanted:
            continue
        *whole, rest = separator.split("".join(held))
        yield from filter(None, whole)
        cut = safe_cut(rest[: max(0, len(rest) - margin)])
        if cut:
            yield rest[:cut]
        held, length = [rest[cut:]], len(rest) - cut
        wanted = max(size, 2 * length)
    yield from filter(None, separator.split("".join(held)))


def count_words(
    files_or_texts: Iterable[str | Path],
    count: Callable[[list[str]], Mapping[Word, int]],
    safe_cut: Callable[[str], int],
    special_tokens: Sequence[str] = (),
    processes: int = 1,
) -> Counter[Word]:
    """Count the words of many files (`Path`) or texts (`str`), each a document.

    `count` counts the words of some texts, `safe_cut` says where a text can be cut
    without cutting a word. With `processes` the pieces are counted side by side.
    """
    if isinstance(files_or_texts, (str, Path)):
        files_or_texts = [files_or_texts]
    counts: Counter[Word] = Counter()
    groups = _groups(files_or_texts, safe_cut, special_tokens)
    for part in parallel_map(count, groups, processes):
        counts.update(part)
    if not counts:
        raise UserError("files_or_texts: no text to learn from; all of it is empty")
    return counts


def _groups(
    files_or_texts: Iterable[str | Path],
    safe_cut: Callable[[str], int],
    special_tokens: Sequence[str],
) -> Iterator[list[str]]:
    """Segments of all documents in groups of about PIECE characters."""
    group: list[str] = []
    length = 0
    for source in files_or_texts:
        pieces = read_text(source) if isinstance(source, Path) else [source]
        for segment in segments(pieces, safe_cut, special_tokens):
            group.append(segment)
            length += len(segment)
            if length >= PIECE:
                yield group
                group, length = [], 0
    if group:
        yield group
