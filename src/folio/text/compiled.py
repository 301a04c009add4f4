"""Counting words and encoding text for byte-pair encoding, compiled by numba.

Only fast_bpe.py imports this, and only where numba is installed. The results are
those of bpe.py to the last id.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

from folio.text.bpe import BPETokenizer
from folio.text.compiled_merges import learn_merges
from folio.text.compiled_split import inner, kinds, word_end
from folio.text.fast_bpe import COMPILED
from folio.text.tokenizer import to_bytes

__all__ = ["Encoder", "count_split", "learn_merges"]

LONGEST = 48  # bytes; longer words are not remembered
WORDS = 1 << 17  # remembered at most; then it starts anew

# counting words


def count_split(texts: list[str], pattern: str) -> dict[bytes, int]:
    """`bpe.count_split`, compiled."""
    parts = [to_bytes(text) for text in texts]
    data = b"".join(parts)
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    array = np.frombuffer(data, np.uint8)
    words = _count(array, ends, kinds(), COMPILED[pattern]).tolist()
    return {data[start : start + size]: number for start, size, number in words}


@inner
def hash_of(text, start, end):
    """64 bits that tell words apart: of up to 8 bytes these themselves, else FNV-1a."""
    value = np.uint64(0)
    if end - start <= 8:
        for i in range(start, end):
            value = value << np.uint64(8) | np.uint64(text[i])
        return value
    value = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        value = (value ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
    return value


@inner
def place_of(value, size):
    """Where to look for a hash first in a table of `size` places (a power of two)."""
    mixed = value * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(size - 1))


@inner
def same(text, a, other, b, size):
    """Whether two words of equal hash and `size` are equal; short ones are."""
    if size <= 8:
        return True
    for i in range(size):  # noqa: SIM110 (numba has no all())
        if text[a + i] != other[b + i]:
            return False
    return True


@njit(cache=True)
def _count(text, ends, kinds, digits):
    """Start, size and number of each different word, by open addressing: (words, 3).

    `ends` are those of the single texts in `text`: no word reaches across one.
    """
    size = 1 << 12
    table = np.full(size, -1, np.int32)
    hashes = np.empty(size, np.uint64)
    words = np.empty((size, 3), np.int64)
    used, start, document = 0, 0, 0
    while start < len(text):
        while start == ends[document]:
            document += 1
        end = word_end(text[: ends[document]], start, kinds, digits)
        value = hash_of(text, start, end)
        place = place_of(value, size)
        while True:
            word = table[place]
            if word < 0:
                table[place] = used
                hashes[used] = value
                words[used, 0], words[used, 1], words[used, 2] = start, end - start, 1
                used += 1
                break
            if (
                hashes[word] == value
                and words[word, 1] == end - start
                and same(text, start, text, words[word, 0], end - start)
            ):
                words[word, 2] += 1
                break
            place = (place + 1) & (size - 1)
        start = end
        if 2 * used > size:
            size *= 2
            table, hashes, words = _grown(size, used, hashes, words)
    return words[:used]


@inner
def _grown(size, used, hashes, words):
    table = np.full(size, -1, np.int32)
    more_hashes, more_words = np.empty(size, np.uint64), np.empty((size, 3), np.int64)
    more_hashes[:used], more_words[:used] = hashes[:used], words[:used]
    for word in range(used):
        place = place_of(hashes[word], size)
        while table[place] >= 0:
            place = (place + 1) & (size - 1)
        table[place] = word
    return table, more_hashes, more_words


# encoding


class Encoder:
    """`BPETokenizer.encode` for one tokenizer: merge table and memory of words.

    Not for several threads at once: the memory is written while encoding.
    """

    def __init__(self, tokenizer: BPETokenizer):
        self._digits = COMPILED[tokenizer.pattern]
        self._byte_ids = np.array(tokenizer._byte_ids, np.int32)
        self._merges = _merge_table(tokenizer._ranks, tokenizer._merged)
        self._memory = (
            np.full(2 * WORDS, -1, np.int32),  # hash to word
            np.empty(WORDS, np.uint64),  # its hash,
            np.empty(WORDS, np.int32),  # where it begins in `spelled` and `ids`,
            np.empty(WORDS, np.int32),  # how many bytes
            np.empty(WORDS, np.int32),  # and ids it has
            np.empty(16 * WORDS, np.uint8),  # spelled
            np.empty(16 * WORDS, np.int32),  # ids
            np.zeros(2, np.int64),  # words, and bytes, in use
        )

    def encode(self, text: str) -> list[int]:
        data = np.frombuffer(to_bytes(text), np.uint8)
        ids = _encode(
            data, kinds(), self._digits, self._byte_ids, self._merges, self._memory
        )
        return ids.tolist()


def _merge_table(ranks, merged):
    """Open addressing from a pair of ids to its rank and the merged id."""
    size = 1 << max(4, (4 * len(ranks)).bit_length())
    pairs = np.array(list(ranks), np.int64).reshape(-1, 2)
    values = np.array(list(ranks.values()), np.int32)
    ids = np.array([merged[pair] for pair in ranks], np.int32)
    return _fill(size, pairs, values, ids)


@njit(cache=True)
def _fill(size, pairs, values, ids):
    keys = np.full(size, -1, np.int64)
    ranks, results = np.empty(size, np.int32), np.empty(size, np.int32)
    for i in range(len(values)):
        key = pairs[i, 0] << 32 | pairs[i, 1]
        place = place_of(np.uint64(key), size)
        while keys[place] >= 0:
            place = (place + 1) & (size - 1)
        keys[place], ranks[place], results[place] = key, values[i], ids[i]
    return keys, ranks, results


NEVER = np.int32(0x7FFFFFFF)


@inner
def _rank(left, right, merges):
    """(rank, merged id) of a pair; NEVER if it was not learned."""
    keys, ranks, results = merges
    key = np.int64(left) << 32 | np.int64(right)
    place = place_of(np.uint64(key), len(keys))
    while keys[place] >= 0:
        if keys[place] == key:
            return ranks[place], results[place]
        place = (place + 1) & (len(keys) - 1)
    return NEVER, np.int32(-1)


@njit(cache=True)
def _encode(text, kinds, digits, byte_ids, merges, memory):
    table, hashes, begins, sizes, numbers, spelled, known, used = memory
    out = np.empty(len(text), np.int32)
    written, start = 0, 0
    scratch = np.empty(LONGEST, np.int32)
    while start < len(text):
        end = word_end(text, start, kinds, digits)
        size = end - start
        if size > LONGEST:
            written = _merge_long(text, start, end, byte_ids, merges, out, written)
            start = end
            continue
        value = hash_of(text, start, end)
        place = place_of(value, len(table))
        word = table[place]
        while word >= 0:
            if (
                hashes[word] == value
                and sizes[word] == size
                and same(text, start, spelled, begins[word], size)
            ):
                break
            place = (place + 1) & (len(table) - 1)
            word = table[place]
        if word >= 0:
            begin = begins[word]
            for i in range(numbers[word]):
                out[written + i] = known[begin + i]
            written += numbers[word]
            start = end
            continue
        number = _merge_short(text, start, end, byte_ids, merges, out, written, scratch)
        if used[0] == len(hashes) or used[1] + size > len(spelled):
            table[:] = -1
            used[:] = 0
            place = place_of(value, len(table))
        word, begin = used[0], used[1]
        table[place] = word
        hashes[word], begins[word] = value, begin
        sizes[word], numbers[word] = size, number
        for i in range(size):
            spelled[begin + i] = text[start + i]
        for i in range(number):
            known[begin + i] = out[written + i]
        used[0] += 1
        used[1] += size
        written += number
        start = end
    return out[:written]


@inner
def _merge_short(text, start, end, byte_ids, merges, out, written, ranks):
    """`merge_word` in place: the ids go to out[written:], their number is returned."""
    size = end - start
    for i in range(size):
        out[written + i] = byte_ids[text[start + i]]
    for i in range(size - 1):
        ranks[i], _ = _rank(out[written + i], out[written + i + 1], merges)
    while size > 1:
        best = 0
        for i in range(1, size - 1):
            if ranks[i] < ranks[best]:
                best = i
        if ranks[best] == NEVER:
            break
        here = written + best
        _, out[here] = _rank(out[here], out[here + 1], merges)
        size -= 1
        for i in range(best + 1, size):
            out[written + i] = out[written + i + 1]
            ranks[i - 1] = ranks[i]
        if best + 1 < size:
            ranks[best], _ = _rank(out[here], out[here + 1], merges)
        if best > 0:
            ranks[best - 1], _ = _rank(out[here - 1], out[here], merges)
    return size


@inner
def _merge_long(text, start, end, byte_ids, merges, out, written):
    """`merge_long_word`: pairs in a heap, by rank and then by place."""
    size = end - start
    ids = np.empty(size, np.int32)
    ranks = np.full(size, NEVER, np.int32)  # of the pair that starts at each place
    after, before = np.empty(size, np.int64), np.empty(size, np.int64)
    for i in range(size):
        ids[i] = byte_ids[text[start + i]]
        after[i], before[i] = i + 1, i - 1
    heap = [np.int64(0) for _ in range(0)]
    for i in range(size - 1):
        ranks[i], _ = _rank(ids[i], ids[i + 1], merges)
        if ranks[i] != NEVER:
            heap.append(np.int64(ranks[i]) << 32 | i)
    heapq.heapify(heap)
    while heap:
        entry = heapq.heappop(heap)
        rank, place = entry >> 32, entry & 0xFFFFFFFF
        if ranks[place] != rank:
            continue  # one of the two was glued to another piece meanwhile
        other = after[place]
        _, ids[place] = _rank(ids[place], ids[other], merges)
        ids[other], ranks[other] = -1, NEVER
        after[place] = after[other]
        if after[place] < size:
            before[after[place]] = place
        for first in (before[place], place):
            if first >= 0:
                ranks[first] = NEVER
                if after[first] < size:
                    ranks[first], _ = _rank(ids[first], ids[after[first]], merges)
                if ranks[first] != NEVER:
                    heapq.heappush(heap, np.int64(ranks[first]) << 32 | first)
    for i in range(size):
        if ids[i] >= 0:
            out[written] = ids[i]
            written += 1
    return written
