"""Learning the merges of byte-pair encoding, compiled by numba.

All words stand one behind the other in one array of positions. `following` and
`preceding` link the pieces of a word that are still there; each piece knows the pair
that starts at it, and each pair has its places in a linked list, in text order. So a
merge touches only the places where it happens, and nothing has to be searched.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from folio.text.compiled_split import inner

NONE = -1


def learn_merges(
    word_counts: Mapping[bytes, int], num_merges: int
) -> list[tuple[bytes, bytes]]:
    """`bpe.learn_merges`, compiled."""
    lengths = np.fromiter(map(len, word_counts), np.int64, len(word_counts))
    numbers = np.fromiter(word_counts.values(), np.int64, len(word_counts))
    # Behind the words, each byte once more: there a token of one byte is spelled.
    text = b"".join(word_counts) + bytes(range(256))
    if len(text) >= 1 << 31:
        raise MemoryError("more than 2 GiB of different words")
    left, right = _learn(np.frombuffer(text, np.uint8), lengths, numbers, num_merges)
    pieces = [bytes([byte]) for byte in range(256)]
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        pieces.append(pieces[a] + pieces[b])
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return [(pieces[a], pieces[b]) for a, b in pairs]


@njit(cache=True)
def _learn(text, lengths, numbers, num_merges):
    size = len(text) - 256
    pieces = text[:size].astype(np.int32)
    weight, following, preceding = _link(lengths, numbers, size)

    # Pairs are numbered as they are met; these are their columns.
    most = min(65536, size) + 2 * size + 1
    left, right = np.empty(most, np.int32), np.empty(most, np.int32)
    count = np.zeros(most, np.int64)
    head, tail = np.full(most, NONE, np.int32), np.full(most, NONE, np.int32)
    # The pair that starts at a position, and the place's neighbors in its list.
    pair_at = np.full(size, NONE, np.int32)
    after, before = np.full(size, NONE, np.int32), np.full(size, NONE, np.int32)
    places = (head, tail, after, before, pair_at)

    known = np.full((256, 256), NONE, np.int32)
    used = 0
    for i in range(size):
        if following[i] != NONE:
            a, b = pieces[i], pieces[following[i]]
            if known[a, b] == NONE:
                known[a, b] = used
                left[used], right[used] = a, b
                used += 1
            count[known[a, b]] += weight[i]
            _append(places, known[a, b], i)

    # Where and how long each token is spelled in `text`, to compare tokens by bytes.
    begin = np.empty(256 + num_merges, np.int64)
    length = np.ones(256 + num_merges, np.int64)
    begin[:256] = np.arange(size, size + 256)
    columns = (count, left, right, begin, length, text)
    heap, valued = np.empty(most, np.int32), np.empty(most, np.int64)
    heaped = 0
    for pair in range(used):
        heaped = _push(heap, valued, heaped, pair, columns)

    # The pairs of the newest token with each neighbor; `stamp` tells when it was set.
    with_left = np.full(256 + num_merges, NONE, np.int32)
    with_right = np.full(256 + num_merges, NONE, np.int32)
    stamp_left = np.zeros(256 + num_merges, np.int32)
    stamp_right = np.zeros(256 + num_merges, np.int32)
    new = 256
    out_left, out_right = np.empty(num_merges, np.int32), np.empty(num_merges, np.int32)
    while new < 256 + num_merges:
        best = NONE
        while heaped:
            pair, value = heap[0], valued[0]
            heaped = _pop(heap, valued, heaped, columns)
            if count[pair] == value:
                best = pair
                break
            if count[pair] > 0:  # it lost some places meanwhile: back with the rest
                heaped = _push(heap, valued, heaped, pair, columns)
        if best == NONE:
            break
        a, b = left[best], right[best]
        out_left[new - 256], out_right[new - 256] = a, b
        begin[new], length[new] = head[best], length[a] + length[b]
        first_new = used
        while head[best] != NONE:
            here = head[best]
            there = following[here]
            old, further, times = preceding[here], following[there], weight[here]
            _remove(places, best, here)
            if further != NONE:
                count[pair_at[there]] -= times
                _remove(places, pair_at[there], there)
                preceding[further] = here
            pieces[here], following[here] = new, further
            if old != NONE:
                count[pair_at[old]] -= times
                _remove(places, pair_at[old], old)
                piece = pieces[old]
                if stamp_left[piece] != new:
                    stamp_left[piece], with_left[piece] = new, used
                    left[used], right[used] = piece, new
                    used += 1
                count[with_left[piece]] += times
                _append(places, with_left[piece], old)
            if further != NONE:
                piece = pieces[further]
                if stamp_right[piece] != new:
                    stamp_right[piece], with_right[piece] = new, used
                    left[used], right[used] = new, piece
                    used += 1
                count[with_right[piece]] += times
                _append(places, with_right[piece], here)
        count[best] = 0
        new += 1
        for pair in range(first_new, used):
            if count[pair] > 0:
                heaped = _push(heap, valued, heaped, pair, columns)
    return out_left[: new - 256], out_right[: new - 256]


@inner
def _link(lengths, numbers, size):
    """Per position: the count of its word, the next and the previous position."""
    weight = np.empty(size, np.int64)
    following, preceding = np.empty(size, np.int32), np.empty(size, np.int32)
    start = 0
    for word in range(len(lengths)):
        end = start + lengths[word]
        for i in range(start, end):
            weight[i] = numbers[word]
            following[i] = i + 1 if i + 1 < end else NONE
            preceding[i] = i - 1 if i > start else NONE
        start = end
    return weight, following, preceding


# the places of a pair: a doubly linked list in the order of the text


@inner
def _append(places, pair, i):
    head, tail, after, before, pair_at = places
    pair_at[i] = pair
    after[i], before[i] = NONE, tail[pair]
    if tail[pair] == NONE:
        head[pair] = i
    else:
        after[tail[pair]] = i
    tail[pair] = i


@inner
def _remove(places, pair, i):
    head, tail, after, before, pair_at = places
    pair_at[i] = NONE
    if before[i] == NONE:
        head[pair] = after[i]
    else:
        after[before[i]] = after[i]
    if after[i] == NONE:
        tail[pair] = before[i]
    else:
        before[after[i]] = before[i]


# a heap of pairs: the greatest count on top, among equals the greatest bytes


@inner
def _compare(text, a, end_a, b, end_b):
    """Bytes in order: negative, 0 or positive, as a < b, a == b or a > b."""
    for i in range(min(end_a - a, end_b - b)):
        if text[a + i] != text[b + i]:
            return np.int64(text[a + i]) - np.int64(text[b + i])
    return (end_a - a) - (end_b - b)


@inner
def _wins(pair, value, other, other_value, columns):
    if value != other_value:
        return value > other_value
    _, left, right, begin, length, text = columns
    a, b = left[pair], left[other]
    order = _compare(
        text, begin[a], begin[a] + length[a], begin[b], begin[b] + length[b]
    )
    if order == 0:
        a, b = right[pair], right[other]
        order = _compare(
            text, begin[a], begin[a] + length[a], begin[b], begin[b] + length[b]
        )
    return order > 0


@inner
def _push(heap, valued, heaped, pair, columns):
    value = columns[0][pair]
    i = heaped
    while i > 0:
        parent = (i - 1) >> 1
        if not _wins(pair, value, heap[parent], valued[parent], columns):
            break
        heap[i], valued[i] = heap[parent], valued[parent]
        i = parent
    heap[i], valued[i] = pair, value
    return heaped + 1


@inner
def _pop(heap, valued, heaped, columns):
    """Take the top away (read it before) and put the last entry in order."""
    heaped -= 1
    pair, value = heap[heaped], valued[heaped]
    i = 0
    while 2 * i + 1 < heaped:
        child = 2 * i + 1
        if child + 1 < heaped and _wins(
            heap[child + 1], valued[child + 1], heap[child], valued[child], columns
        ):
            child += 1
        if not _wins(heap[child], valued[child], pair, value, columns):
            break
        heap[i], valued[i] = heap[child], valued[child]
        i = child
    heap[i], valued[i] = pair, value
    return heaped
