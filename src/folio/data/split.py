"""Which documents are kept, and which part each belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from folio.config import UserError


class Labeled(NamedTuple):
    """A document and the part it belongs to: "train" or "validation"."""

    split: str
    text: str


@dataclass
class Counts:
    """What was met on the way: documents read, and those of them left out."""

    documents: int = 0
    duplicates: int = 0
    empty: int = 0


def split_of(text: str, val_fraction: float, seed: int = 0) -> str:
    """The part a document belongs to, decided by its own text alone.

    Neither order nor company matters: adding data never moves a document from one
    part to the other, and equal documents never lie in both.

    >>> [split_of(text, 0.5) for text in ("a", "b", "c", "d")]
    ['validation', 'train', 'validation', 'train']
    """
    place = int.from_bytes(_digest(text, seed)[:8], "little") / 2**64  # in [0, 1)
    return "validation" if place < val_fraction else "train"


def label(texts: Iterable[str], val_fraction: float, seed: int) -> Iterator[Labeled]:
    """Each document with the part it belongs to."""
    for text in texts:
        yield Labeled(split_of(text, val_fraction, seed), text)


def without_repeats(
    documents: Iterable[Labeled], counts: Counts, dedup: bool = True
) -> Iterator[Labeled]:
    """Leave out empty documents and, with `dedup`, exact repetitions.

    Of each document 16 bytes are kept to know it again: about 100 MB a million.
    """
    seen: set[bytes] = set()
    for document in documents:
        counts.documents += 1
        if not document.text:
            counts.empty += 1
            continue
        if dedup:
            digest = _digest(document.text)
            if digest in seen:
                counts.duplicates += 1
                continue
            seen.add(digest)
        yield document


def _digest(text: str, seed: int = 0) -> bytes:
    salt = seed.to_bytes(16, "little", signed=True)
    try:
        return hashlib.blake2b(text.encode(), digest_size=16, salt=salt).digest()
    except UnicodeEncodeError as error:
        raise UserError(
            f"document {text[:40]!r}: lone surrogate at character {error.start} has no"
            " place in UTF-8 text; remove it"
        ) from None
