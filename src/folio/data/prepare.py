"""From a corpus to a folder of shards, with a held-out part; done once, then reused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from folio.data.corpora import Corpus, OneText
from folio.data.encode import Encoded, encode_documents, encode_text
from folio.data.shards import SHARD_TOKENS, check_fraction, store
from folio.data.split import Counts, without_repeats
from folio.text.tokenizer import Tokenizer


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    dedup: bool = True,
    processes: int = 1,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Make sure that `folder` holds `corpus` encoded by `tokenizer`; return its index.

    The held-out part is, for one long text, its last `val_fraction` of characters;
    for tales, the generator's own; for other documents, by hash (`write_shards`).
    What is there already from the same corpus and options is kept
    (`index["reused"]`); anything else, or half of it, is replaced at one stroke.
    """
    counts = Counts()
    options = {"val_fraction": val_fraction, "seed": seed, "dedup": dedup}
    return store(
        encode_corpus(corpus, tokenizer, counts, processes=processes, **options),
        tokenizer,
        folder,
        counts=counts,
        splits=splits_of(val_fraction),
        shard_tokens=shard_tokens,
        request=request_of(corpus, tokenizer, shard_tokens=shard_tokens, **options),
    )


def splits_of(val_fraction: float) -> tuple[str, ...]:
    """The parts of a text that are to be held in the end, neither of them empty."""
    return ("train", "validation") if val_fraction else ("train",)


def request_of(
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    val_fraction: float,
    seed: int,
    dedup: bool,
    shard_tokens: int,
) -> dict[str, Any]:
    """All that token files depend on: where it is the same, so are they."""
    return {
        "corpus": corpus.name,
        **corpus.identity(),
        "tokenizer": tokenizer.fingerprint,
        "val_fraction": val_fraction,
        "split_seed": seed,
        "dedup": dedup,
        "shard_tokens": shard_tokens,
    }


def encode_corpus(
    corpus: Corpus,
    tokenizer: Tokenizer,
    counts: Counts,
    *,
    val_fraction: float,
    seed: int,
    dedup: bool,
    processes: int,
) -> Iterator[Encoded]:
    """The ids of a corpus, split and without repeats; `counts` grows on the way."""
    check_fraction(val_fraction)
    if isinstance(corpus, OneText):
        counts.documents = 1
        return _encode_parts(corpus, tokenizer, val_fraction)
    documents = corpus.labeled(val_fraction, seed)
    kept = without_repeats(documents, counts, dedup)
    return encode_documents(kept, tokenizer, processes)


def _encode_parts(
    corpus: OneText, tokenizer: Tokenizer, val_fraction: float
) -> Iterator[Encoded]:
    for split, pieces in corpus.parts(val_fraction).items():
        yield from encode_text(split, pieces, tokenizer)
