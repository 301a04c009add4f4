"""Byte-pair encoding sooner, with the same results as bpe.py.

Training: gluing one pair changes the counts of its neighbors only. So keep for each
pair its count and the words it occurs in, take the best pair from a heap, and mend.
Encoding a long word: keep the pairs in a heap and the pieces in a linked list, which
takes n log n steps where the plain loop takes n². Both in plain Python here; with
`pip install 'folio-llm[fast]'` the same ideas run compiled
(compiled.py, compiled_split.py, compiled_merges.py).
"""

from __future__ import annotations

import heapq
import importlib.util
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from folio.config import UserError
from folio.text import bpe
from folio.text.word_bpe import Piece, glue
from folio.text.word_counts import as_source

# The split patterns that compiled_split.py knows, and how many digits make a word
# there: 0 is GPT-2's, which takes them all.
COMPILED = {"gpt2": 0, "gpt4": 3, "qwen2": 1}


@cache
def compiled() -> ModuleType | None:
    """The module of compiled functions, or None where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    from folio.text import compiled as module

    return module


def make_encoder(tokenizer: bpe.BPETokenizer):
    """`tokenizer.encode` compiled, or None where that can't be.

    Compiled are the patterns of `COMPILED`, where numba is installed. A tokenizer with
    `whole_words` is not: the compiled loop knows only merges.
    """
    module = compiled()
    if module is None or tokenizer.pattern not in COMPILED or tokenizer.whole_words:
        return None
    return module.Encoder(tokenizer)


# training


def fast_training(
    files_or_texts: Iterable[str | Path], pattern: str
) -> tuple[Callable, Callable]:
    """What `bpe.count_split` and `bpe.learn_merges` do, fast for this much text."""
    module = compiled() if _size(files_or_texts) >= bpe.COMPILED_FROM else None
    if module is not None and pattern in COMPILED:
        return module.count_split, module.learn_merges
    return bpe.count_split, lambda counts, n: learn_merges_heap(bpe.spell(counts), n)


def _size(files_or_texts: Iterable[str | Path]) -> float:
    """Bytes of files and characters of texts; without end if it can't be known."""
    if isinstance(files_or_texts, (str, Path)):
        files_or_texts = [files_or_texts]
    if not isinstance(files_or_texts, Collection):
        return float("inf")
    sources = map(as_source, files_or_texts)
    return sum(_length(source) for source in sources)


def _length(source: str | Path) -> int:
    if isinstance(source, str):
        return len(source)
    if not source.is_file():
        raise UserError(f"no such file: {source}")
    return source.stat().st_size


def learn_merges_heap(
    word_counts: Mapping[tuple[Piece, ...], int], num_merges: int
) -> list[tuple[Piece, Piece]]:
    """`word_bpe.learn_merges` with counts kept up to date instead of made anew."""
    words, numbers = [list(w) for w in word_counts], list(word_counts.values())
    counts: dict[tuple[Piece, Piece], int] = defaultdict(int)
    places: dict[tuple[Piece, Piece], set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += numbers[index]
            places[pair].add(index)
    heap = [(-count, Greatest(pair)) for pair, count in counts.items()]
    heapq.heapify(heap)

    merges: list[tuple[Piece, Piece]] = []
    while heap and len(merges) < num_merges:
        count, greatest = heapq.heappop(heap)
        best = greatest.pair
        if counts.get(best, 0) != -count:  # the entry is stale: put the true one back
            if counts.get(best, 0) > 0:
                heapq.heappush(heap, (-counts[best], greatest))
            continue
        merges.append(best)
        new: set[tuple[Piece, Piece]] = set()
        for index in places.pop(best):
            before = words[index]
            words[index] = after = glue(before, best)
            number = numbers[index]
            for pair in pairwise(before):
                counts[pair] -= number
            for pair in pairwise(after):
                counts[pair] += number
                if best[0] + best[1] in pair:
                    places[pair].add(index)
                    new.add(pair)
        counts.pop(best)
        for pair in new:
            heapq.heappush(heap, (-counts[pair], Greatest(pair)))
    return merges


class Greatest:
    """A pair that sorts before the smaller ones: heapq gives the least first."""

    __slots__ = ("pair",)

    def __init__(self, pair: tuple):
        self.pair = pair

    def __lt__(self, other: Greatest) -> bool:
        return self.pair > other.pair


# encoding


def merge_long_word(
    ids: Sequence[int],
    ranks: Mapping[tuple[int, int], int],
    merged: Mapping[tuple[int, int], int],
) -> list[int]:
    """`bpe.merge_word` in n log n steps.

    >>> merge_long_word([1, 2, 3], {(2, 3): 0, (1, 2): 1}, {(2, 3): 4, (1, 2): 5})
    [1, 4]
    """
    ids = list(ids)
    size = len(ids)
    after = list(range(1, size + 1))  # the next living piece; `size` is the end
    before = list(range(-1, size - 1))
    heap = [
        (ranks[pair], place, *pair)
        for place, pair in enumerate(pairwise(ids))
        if pair in ranks
    ]
    heapq.heapify(heap)
    while heap:
        _, place, left, right = heapq.heappop(heap)
        follower = after[place]
        if follower >= size or (ids[place], ids[follower]) != (left, right):
            continue  # one of the two was glued to another piece meanwhile
        ids[place], ids[follower] = merged[left, right], -1
        after[place] = after[follower]
        if after[place] < size:
            before[after[place]] = place
        for start in (before[place], place):
            if start >= 0 and after[start] < size:
                pair = ids[start], ids[after[start]]
                if pair in ranks:
                    heapq.heappush(heap, (ranks[pair], start, *pair))
    return [piece for piece in ids if piece >= 0]
