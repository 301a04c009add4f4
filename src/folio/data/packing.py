"""Which pieces share a row, so that rows of one width have little padding."""

from __future__ import annotations

from collections.abc import Sequence


def pack(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Put each piece into the fullest row that has room for it, the longest first.

    Best fit decreasing (Johnson 1973); pieces are named by their place in `sizes`.
    Rows, and pieces in them, stand in the order of their earliest piece, so that short
    ones come as early as long ones.

    >>> pack([2, 5, 3, 4], length=8)
    [[0, 3], [1, 2]]
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        fitting = [row for row, room in enumerate(free) if room >= sizes[index]]
        if fitting:
            best = min(fitting, key=free.__getitem__)
            rows[best].append(index)
            free[best] -= sizes[index]
        else:
            rows.append([index])
            free.append(length - sizes[index])
    return sorted(map(sorted, rows))
