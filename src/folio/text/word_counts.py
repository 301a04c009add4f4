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
TEXT_SUFFIXES = (".txt", ".md", ".py", ".jsonl", ".csv", ".parquet")
PIECE = 1 << 22  # characters counted at a time


def as_source(source: str | Path) -> str | Path:
    """A `Path` is a file; a `str` is the file of that name if there is one, else text.

    A `str` that looks like a file's name and is none is an error, and not a text of
    nine letters.

    >>> as_source("Once upon a time")
    'Once upon a time'
    """
    if isinstance(source, Path) or len(source) > 1000 or "\n" in source:
        return source
    try:
        if Path(source).is_file():
            return Path(source)
    except (OSError, ValueError):  # it cannot be a name: too long, say
        return source
    if Path(source).suffix in TEXT_SUFFIXES and not any(map(str.isspace, source)):
        raise UserError(f"no such file: {source}")
    return source


def read_text(path: Path, size: int) -> Iterator[str]:
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
    size: int,
) -> Iterator[str]:
    """One document in segments whose words are the words of the whole.

    It is cut at special tokens, which are dropped, and at safe places elsewhere.

    >>> list(segments(["one<|e", "nd|>two"], len, ["<|end|>"], 8))
    ['one', 'two']
    """
    separate = _separator(special_tokens)
    # A special token may have begun at the end of what is known: don't cut there.
    margin = max(map(len, special_tokens), default=1) - 1
    held: list[str] = []
    length, wanted = 0, size
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length < wanted:
            continue
        *whole, rest = separate("".join(held))
        yield from filter(None, whole)
        cut = safe_cut(rest[: max(0, len(rest) - margin)])
        if cut:
            yield rest[:cut]
        held, length = [rest[cut:]], len(rest) - cut
        wanted = max(size, 2 * length)
    yield from filter(None, separate("".join(held)))


def _separator(special_tokens: Sequence[str]) -> Callable[[str], list[str]]:
    """A function that splits a text at special tokens, the longest of them first."""
    by_length = sorted(special_tokens, key=len, reverse=True)
    pattern = regex.compile("|".join(map(regex.escape, by_length)))

    def separate(text: str) -> list[str]:
        # Most texts have none, and `in` sees that ten times sooner than a pattern.
        if any(token in text for token in special_tokens):
            return pattern.split(text)
        return [text]

    return separate


def count_words(
    files_or_texts: Iterable[str | Path],
    count: Callable[[list[str]], Mapping[Word, int]],
    safe_cut: Callable[[str], int],
    special_tokens: Sequence[str] = (),
    processes: int = 1,
) -> Counter[Word]:
    """Count the words of many files or texts (see `as_source`), each a document.

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
    for source in map(as_source, files_or_texts):
        pieces = read_text(source, PIECE) if isinstance(source, Path) else [source]
        for segment in segments(pieces, safe_cut, special_tokens, PIECE):
            group.append(segment)
            length += len(segment)
            if length >= PIECE:
                yield group
                group, length = [], 0
    if group:
        yield group
