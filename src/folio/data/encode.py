"""From documents to token ids, in as many processes as wanted.

The result doesn't depend on their number: one process reads and cuts the work into
blocks, the others only encode, and their answers are taken in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from folio.config import UserError
from folio.data.split import Labeled
from folio.data.tokens import token_dtype
from folio.text.parallel import parallel_map
from folio.text.tokenizer import Tokenizer

_BLOCK = 1 << 18  # characters encoded at once: some 50 ms of work for a process


class Encoded(NamedTuple):
    """A stretch of ids of one part, and how much text they stand for."""

    split: str
    ids: np.ndarray  # (N,)
    documents: int
    text_bytes: int


def encode_documents(
    documents: Iterable[Labeled], tokenizer: Tokenizer, processes: int = 1
) -> Iterator[Encoded]:
    """Encode documents, end-of-text after each, in `processes` processes.

    Constant memory: only a few blocks of text are under way at once.
    """
    if processes < 1:
        raise UserError(f"processes = {processes}: must be at least 1")
    encode = partial(_encode_block, tokenizer)
    return parallel_map(encode, _blocks(documents), processes)


def _blocks(documents: Iterable[Labeled]) -> Iterator[list[Labeled]]:
    """Documents in blocks of one part and about `_BLOCK` characters."""
    waiting: dict[str, list[Labeled]] = {}
    sizes: dict[str, int] = {}
    for document in documents:
        waiting.setdefault(document.split, []).append(document)
        sizes[document.split] = sizes.get(document.split, 0) + len(document.text)
        if sizes[document.split] >= _BLOCK:
            yield waiting.pop(document.split)
            sizes[document.split] = 0
    yield from waiting.values()


def _encode_block(tokenizer: Tokenizer, block: list[Labeled]) -> Encoded:
    texts = [document.text for document in block]
    rows = tokenizer.encode_batch(texts)
    ids = np.concatenate([[*row, tokenizer.end_of_text] for row in rows])
    text_bytes = sum(len(text.encode()) for text in texts)
    return Encoded(block[0].split, _packed(ids, tokenizer), len(texts), text_bytes)


def _packed(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Ids in the smallest type, which must hold them: casting would wrap around."""
    if ids.min() < 0 or ids.max() >= tokenizer.vocab_size:
        raise ValueError(
            f"tokenizer {tokenizer.name!r} gave ids from {ids.min()} to {ids.max()},"
            f" outside its vocabulary of {tokenizer.vocab_size}"
        )
    return ids.astype(token_dtype(tokenizer.vocab_size))


def encode_text(
    split: str, pieces: Iterable[str], tokenizer: Tokenizer
) -> Iterator[Encoded]:
    """Encode one long text given in pieces, lazily; it gets no end-of-text."""
    bytes_read = 0

    def counted() -> Iterator[str]:
        nonlocal bytes_read
        for piece in pieces:
            bytes_read += len(piece.encode())
            yield piece

    ids = tokenizer.encode_iterable(counted())
    documents = 1
    while True:
        block = np.fromiter(islice(ids, _BLOCK), dtype=np.int64)
        if not len(block):
            return
        yield Encoded(split, _packed(block, tokenizer), documents, bytes_read)
        documents = bytes_read = 0
