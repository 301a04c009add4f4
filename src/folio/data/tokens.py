"""One long run of token ids: in memory, or memory-mapped over many files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from folio.config import UserError


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id, little-endian everywhere.

    >>> token_dtype(50257), token_dtype(65536), token_dtype(65537)
    (dtype('uint16'), dtype('uint16'), dtype('uint32'))
    """
    if not 1 <= vocab_size <= 2**32:
        raise UserError(f"vocab_size = {vocab_size}: must be from 1 to {2**32}")
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def fingerprint_of(hashes: Sequence[str]) -> str:
    """One name for a sequence of parts, from the sha256 of each in order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


class Tokens:
    """Token ids as one sequence, wherever they lie; nothing is copied until asked.

    `documents` counts the documents, `text_bytes` the UTF-8 bytes of text they were
    encoded from (None if unknown: bits per byte can't be told), and `fingerprint` is
    a sha256 that changes when any id does.

    >>> tokens = Tokens.from_ids([5, 6, 7, 8, 9], vocab_size=10)
    >>> len(tokens), tokens[1], tokens[1:3]
    (5, 6, array([6, 7], dtype=uint16))
    >>> tokens.windows(np.array([0, 2]), 3)
    array([[5, 6, 7],
           [7, 8, 9]])
    """

    def __init__(
        self,
        parts: Sequence[np.ndarray],
        *,
        vocab_size: int,
        fingerprint: str,
        documents: int = 1,
        text_bytes: int | None = None,
    ):
        # Plain arrays over the same memory: every index into an np.memmap pays
        # about a microsecond for being a subclass.
        self.parts = [np.asarray(part) for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)
        self.vocab_size = vocab_size
        self.fingerprint = fingerprint
        self.documents = documents
        self.text_bytes = text_bytes

    @classmethod
    def from_ids(
        cls,
        ids: Sequence[int] | np.ndarray,
        *,
        vocab_size: int | None = None,
        documents: int = 1,
        text_bytes: int | None = None,
    ) -> Tokens:
        """Tokens held in memory, for tests, notebooks and small texts."""
        wide = np.asarray(ids, dtype=np.int64)
        if wide.ndim != 1:
            raise UserError(f"token ids of shape {wide.shape}: expected one dimension")
        largest = int(wide.max(initial=0))
        vocab_size = largest + 1 if vocab_size is None else vocab_size
        if largest >= vocab_size or wide.min(initial=0) < 0:
            raise UserError(f"token ids must lie in 0..{vocab_size - 1}")
        part = wide.astype(token_dtype(vocab_size))
        return cls(
            [part],
            vocab_size=vocab_size,
            fingerprint=fingerprint_of([hashlib.sha256(part.tobytes()).hexdigest()]),
            documents=documents,
            text_bytes=text_bytes,
        )

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int | slice) -> int | np.ndarray:
        """One id, or the ids of a contiguous slice (a view when in one part)."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"tokens are sliced with step 1, not {step}")
            return self._slice(start, max(start, stop))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"token {index} of {len(self)}")
        return int(self._slice(position, position + 1)[0])

    def _slice(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        first = int(np.searchsorted(self.ends, start, side="right"))
        for part, end in zip(self.parts[first:], self.ends[first:], strict=True):
            if start >= stop:
                break
            begin = int(end) - len(part)
            pieces.append(part[start - begin : stop - begin])
            start = int(end)
        if not pieces:
            return np.empty(0, dtype=token_dtype(self.vocab_size))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The `length` ids from each start: (B,) -> (B, length) int64."""
        if starts.min() < 0 or starts.max() + length > len(self):
            raise IndexError(f"windows of {length} at {starts} in {len(self)} tokens")
        homes = np.searchsorted(self.ends, starts, side="right")
        whole = self.ends[homes] - starts >= length
        if whole.all() and (homes == homes[0]).all():
            part = self.parts[homes[0]]
            begin = self.ends[homes[0]] - len(part)
            return _rows(part, starts - begin, length).astype(np.int64)
        # Some windows cross from one file into the next: each is cut by itself.
        rows = [self._slice(int(start), int(start) + length) for start in starts]
        return np.stack(rows).astype(np.int64)

    def __repr__(self) -> str:
        return (
            f"Tokens({len(self):,} ids below {self.vocab_size:,}"
            f" from {self.documents:,} documents)"
        )


def _rows(part: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Rows of a table whose row i is `part[i : i + length]`, which is never built.

    Both strides are one id, so the table overlays `part`; taking rows copies each as
    one block of memory (for 12 x 65 ids about 3 times faster than an index table).
    """
    step = part.strides[0]
    table = np.lib.stride_tricks.as_strided(
        part, (len(part) - length + 1, length), (step, step), writeable=False
    )
    return table[starts]
