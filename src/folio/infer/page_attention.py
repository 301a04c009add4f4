"""Attention of one new token a row to pages where they lie, compiled by numba.

For CPUs: PyTorch's kernels want a row's keys side by side, and for a single query spend
more on that copy and on starting many small products than on arithmetic. Here nothing
is copied. A row's arithmetic doesn't depend on its neighbors, and is that of
`folio.model.attend` up to rounding. Only paged.py imports this, where numba is there.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

KINDS = (torch.float32, torch.float64, torch.bfloat16)
SUMS = {"reassoc", "contract", "nsz", "arcp"}  # in any order, to fill vector units
WORTH = 1 << 20  # multiplications: with less to do, a thread isn't worth its start


def as_array(store: Tensor, page_size: int) -> np.ndarray:
    """A layer's memory (G, pages, page_size K) as numba sees it, bf16 as 16 bits.

    In four dimensions, so that the compiler knows of each index that it isn't negative:
    if it has to look, it leaves the vector units alone.
    """
    if store.dtype == torch.bfloat16:
        store = store.view(torch.int16)
    array = store.unflatten(2, (page_size, -1)).numpy()
    return array.view(np.uint16) if array.dtype == np.int16 else array


def attend_pages(
    q: Tensor,
    keys: np.ndarray,
    values: np.ndarray,
    pages: np.ndarray,
    positions: np.ndarray,
    window: int | None,
    scale: float,
) -> Tensor:
    """Each query q (B, H, 1, K) at its position (B,) -> (B, H, 1, K').

    keys, values (G, pages, page_size, K or K'): a layer's memory; pages (B, any
    number): each row's, in the order of its text, position p in page p // page_size.
    Rows at position -1 are padding and get zeros.
    """
    queries = q[:, :, 0].to(torch.promote_types(q.dtype, torch.float32))
    queries = queries.contiguous().numpy()
    rows, heads, width = queries.shape
    y = np.zeros((rows, heads, values.shape[3]), queries.dtype)
    window = np.iinfo(np.int64).max if window is None else window
    scale = queries.dtype.type(scale)
    given = (queries, keys, values, pages, positions, window, scale, y)
    work = 2 * heads * width * int((positions + 1).sum())
    threads = max(min(torch.get_num_threads(), rows, work // WORTH), 1)
    cuts = [rows * i // threads for i in range(threads + 1)]
    if threads == 1:
        _attend(*given, *cuts)
    else:
        pool = _pool(threads)
        jobs = [pool.submit(_attend, *given, *cuts[i : i + 2]) for i in range(threads)]
        for job in jobs:
            job.result()
    return torch.from_numpy(y).to(q.dtype)[:, :, None]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "attention")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def number(x):
    """A number from memory: bf16 is the upper half of a float32."""
    raise NotImplementedError("only compiled code calls this")


@overload(number, inline="always")
def _number(x):
    if x is types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


@njit(nogil=True, cache=True, fastmath=SUMS)
def _attend(queries, keys, values, pages, positions, window, scale, y, start, stop):
    """Rows from `start` to before `stop`, head by head: scores, then a mean."""
    size, width, value_width = keys.shape[2], keys.shape[3], values.shape[3]
    heads_of_group = queries.shape[1] // keys.shape[0]
    scores = np.empty(pages.shape[1] * size, queries.dtype)
    for row in range(start, stop):
        last = positions[row]
        if last < 0:
            continue
        first = max(last - window + 1, 0)
        columns = range(first // size, last // size + 1)
        for head in range(queries.shape[1]):
            group = head // heads_of_group
            query, mean = queries[row, head], y[row, head]
            for column in columns:
                page = pages[row, column]
                for slot in range(size):
                    score = scale - scale  # zero, in the kind of number at hand
                    for i in range(width):
                        key = number(keys[group, page, slot, i])
                        score += query[i] * key
                    scores[column * size + slot] = score * scale
            highest = scores[first : last + 1].max()
            total = scale - scale
            for place in range(first, last + 1):
                scores[place] = math.exp(scores[place] - highest)
                total += scores[place]
            for column in columns:
                page = pages[row, column]
                for slot in range(size):
                    place = column * size + slot
                    if not first <= place <= last:
                        continue
                    weight = scores[place] / total
                    for i in range(value_width):
                        value = number(values[group, page, slot, i])
                        mean[i] += weight * value
