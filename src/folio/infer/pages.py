"""Who holds which page: a pool that requests draw from, share, and give back to.

Memory for keys and values is cut into pages of a few tokens, as an operating system
cuts its own (Kwon et al. 2023, vLLM). A request takes a page when it needs one, so
nothing is reserved for text that may never come; and where prompts begin alike, their
full pages are the same page. No tensor is touched here; `paged.py` has those.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np


class OutOfPages(RuntimeError):
    """No page is free, and none can be given up."""


def page_names(ids: Sequence[int], page_size: int) -> list[bytes]:
    """A name for each full page of a prompt: equal if all up to its end is equal.

    A digest rather than a `hash`, for a collision would show one user the text of
    another.

    >>> one, other = page_names([1, 2, 3, 4, 5], 2), page_names([1, 2, 9, 4], 2)
    >>> len(one), one[0] == other[0], one[1] == other[1]
    (2, True, False)
    """
    names, name = [], b""
    for end in range(page_size, len(ids) + 1, page_size):
        page = np.asarray(ids[end - page_size : end], dtype=np.int64)
        name = hashlib.blake2b(name + page.tobytes(), digest_size=16).digest()
        names.append(name)
    return names


class PagePool:
    """Pages 1 .. count: free, in use by one or several, or remembered for later.

    A page with a name is remembered when its last user leaves, and given up when
    another page is needed and none is free, the least recently used first. Page 0 is
    never given out: padding is written there, and it stays unseen.
    """

    def __init__(self, count: int):
        self.count = count
        self.free = list(range(count, 0, -1))
        self.users = [0] * (count + 1)
        self.known: dict[bytes, int] = {}
        self.names: dict[int, bytes] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()  # named, without users

    @property
    def available(self) -> int:
        """Pages that can be taken now."""
        return len(self.free) + len(self.idle)

    @property
    def used(self) -> int:
        """Pages that some request holds."""
        return self.count - self.available

    def take(self, count: int) -> list[int]:
        """`count` pages for one user; OutOfPages, and nothing taken, if too few."""
        if count > self.available:
            raise OutOfPages(f"{count} pages wanted, {self.available} of {self.count}")
        pages = []
        for _ in range(count):
            if not self.free:
                page, _ = self.idle.popitem(last=False)
                del self.known[self.names.pop(page)]
                self.free.append(page)
            page = self.free.pop()
            self.users[page] = 1
            pages.append(page)
        return pages

    def share(self, name: bytes) -> int | None:
        """The page of that name with one user more, if it is remembered."""
        page = self.known.get(name)
        if page is not None:
            self.users[page] += 1
            self.idle.pop(page, None)
        return page

    def remember(self, page: int, name: bytes) -> None:
        """A page in use is full: others may find it by this name."""
        if name not in self.known and page not in self.names:
            self.known[name] = page
            self.names[page] = name

    def release(self, pages: Sequence[int]) -> None:
        """One user fewer for each of a request's pages, given in the text's order."""
        for page in reversed(pages):  # the end of a prefix is given up before its start
            self.users[page] -= 1
            if self.users[page]:
                continue
            if page in self.names:
                self.idle[page] = None
            else:
                self.free.append(page)

    def forget(self) -> None:
        """No page is to be found by its name any more."""
        self.free += self.idle
        self.idle.clear()
        self.known.clear()
        self.names.clear()


class PageTable:
    """Which pages hold the text of each row of a batch.

    pages[row, n] holds positions n * page_size and on; 0 where nothing is held. Where
    every layer has a window, `reach` = (window, sinks) says what stays visible, and
    what has left it is given back.
    """

    def __init__(
        self,
        pool: PagePool,
        rows: int,
        page_size: int,
        reach: tuple[int, int] | None = None,
    ):
        self.pool, self.page_size, self.reach = pool, page_size, reach
        self.pages = np.zeros((rows, 8), dtype=np.int64)
        self.ends = [0] * rows  # pages of the row so far, those given back included
        self.starts = [0] * rows  # the first one, after the sinks, not given back
        if reach is not None:
            self.starts = [self.sink_pages] * rows

    @property
    def sink_pages(self) -> int:
        """Pages at the start that are never given back."""
        return -(-self.reach[1] // self.page_size) if self.reach else 0

    def pages_for(self, length: int) -> int:
        """Pages that `length` tokens fill.

        >>> PageTable(PagePool(9), 1, page_size=16).pages_for(17)
        2
        """
        return -(-length // self.page_size)

    def grow(self, row: int, length: int) -> list[int]:
        """Let the row hold `length` tokens; returns the pages it took for that."""
        start, end = self.ends[row], self.pages_for(length)
        if end <= start:
            return []
        taken = self.pool.take(end - start)
        self.put(row, taken)
        return taken

    def put(self, row: int, pages: Sequence[int]) -> None:
        """Pages of whose users the row is already one, at its end."""
        start, end = self.ends[row], self.ends[row] + len(pages)
        if end > self.pages.shape[1]:
            wider = np.zeros((len(self.pages), 2 * end), dtype=np.int64)
            wider[:, : self.pages.shape[1]] = self.pages
            self.pages = wider
        self.pages[row, start:end] = pages
        self.ends[row] = end

    def give_back(self, row: int, position: int) -> None:
        """Release what a token at `position` and those after it can't see."""
        if self.reach is None:
            return
        first = max(position - self.reach[0] + 1, 0) // self.page_size
        start, end = self.starts[row], min(first, self.ends[row])
        if end > start:
            self.pool.release(self.pages[row, start:end].tolist())
            self.pages[row, start:end] = 0
            self.starts[row] = end

    def drop(self, row: int) -> None:
        """Release all that the row holds."""
        held = self.pages[row, : self.ends[row]]
        self.pool.release(held[held > 0].tolist())
        self.pages[row] = 0
        self.ends[row], self.starts[row] = 0, self.sink_pages
