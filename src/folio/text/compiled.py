"""Byte-pair encoding compiled by numba: counting, learning, encoding.

Only fast_bpe.py imports this, and only where numba is installed. The results are
those of bpe.py to the last id.
"""

from __future__ import annotations


import numpy as np
from numba import njit

from folio.text.compiled_split import kinds, word_end
from folio.text.tokenizer import to_bytes

# counting words


def count(texts: list[str], pattern: str) -> dict[bytes, int]:
    """`bpe.count`, compiled."""
    counts: dict[bytes, int] = {}
    for text in texts:
        data = to_bytes(text)
        array = np.frombuffer(data, np.uint8)
        starts, ends, numbers = _count(array, kinds(), pattern == "gpt4")
        found = zip(starts.tolist(), ends.tolist(), numbers.tolist(), strict=True)
        for start, end, number in found:
            word = data[start:end]
            counts[word] = counts.get(word, 0) + number
    return counts


@njit(cache=True, inline="always")
def hash_of(text, start, end):
    """FNV-1a, 64 bits, its upper half folded in: the table uses the low bits."""
    value = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        value = (value ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
    return value ^ (value >> np.uint64(32))


@njit(cache=True, inline="always")
def same(text, a, end_a, other, b, end_b):
    if end_a - a != end_b - b:
        return False
    for i in range(end_a - a):
        if text[a + i] != other[b + i]:
            return False
    return True


@njit(cache=True)
def _count(text, kinds, gpt4):
    """Starts, ends and numbers of the different words, by open addressing."""
    size = 1 << 12
    table = np.full(size, -1, np.int32)
    hashes = np.empty(size, np.uint64)
    starts = np.empty(size, np.int64)
    ends = np.empty(size, np.int64)
    numbers = np.empty(size, np.int64)
    used, start = 0, 0
    while start < len(text):
        end = word_end(text, start, kinds, gpt4)
        value = hash_of(text, start, end)
        place = np.int64(value & np.uint64(size - 1))
        while True:
            word = table[place]
            if word < 0:
                table[place] = used
                hashes[used], numbers[used] = value, 1
                starts[used], ends[used] = start, end
                used += 1
                break
            if hashes[word] == value and same(
                text, starts[word], ends[word], text, start, end
            ):
                numbers[word] += 1
                break
            place = (place + 1) & (size - 1)
        start = end
        if 2 * used > size:
            hashes, numbers = _twice(hashes), _twice(numbers)
            starts, ends = _twice(starts), _twice(ends)
            size *= 2
            table = np.full(size, -1, np.int32)
            for word in range(used):
                place = np.int64(hashes[word] & np.uint64(size - 1))
                while table[place] >= 0:
                    place = (place + 1) & (size - 1)
                table[place] = word
    return starts[:used], ends[:used], numbers[:used]


@njit(cache=True)
def _twice(array):
    longer = np.empty(2 * len(array), array.dtype)
    longer[: len(array)] = array
    return longer
