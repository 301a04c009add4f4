"""Who runs in the next step: continuous batching over a pool of pages.

Requests join as soon as there is a row and memory for them, while others are in the
middle of their text (Yu et al. 2022, Orca). A prompt is read in chunks between the
steps of others (Agrawal et al. 2023, Sarathi), so a long one stalls nobody.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from folio.infer.pages import OutOfPages, PageTable
from folio.infer.sequence import Sequence

LEAST = 16  # tokens of a row of prompt: below, CPU kernels round in another way


@dataclass
class Plan:
    """The work of one step."""

    decoding: list[Sequence] = field(default_factory=list)  # one token each
    reading: list[tuple[Sequence, int]] = field(default_factory=list)  # up to where

    def __bool__(self) -> bool:
        return bool(self.decoding or self.reading)


def power_of_two(number: int) -> int:
    """The smallest power of two that is no smaller.

    >>> [power_of_two(n) for n in (1, 16, 17)]
    [1, 16, 32]
    """
    return 1 << (number - 1).bit_length()


class Scheduler:
    """First come, first served; the newest gives way when pages run out.

    `waiting` and `running` are in order of arrival, and whoever waits came after all
    who run. The oldest is never put back, so everybody gets done.
    """

    def __init__(self, table: PageTable, rows: int, chunk: int):
        self.table, self.pool, self.chunk = table, table.pool, chunk
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.rows = list(range(rows - 1, -1, -1))  # free ones
        self.fresh: list[int] = []  # pages taken, to be cleared before they are used
        self.preemptions = 0

    def most_pages(self, length: int) -> int:
        """The pages that a text of `length` tokens ever holds at once."""
        pages = self.table.pages_for(length)
        if self.table.reach is None:
            return pages
        window, _ = self.table.reach
        moving = self.table.pages_for(window + self.chunk) + 1
        return min(pages, self.table.sink_pages + moving)

    def plan(self) -> Plan:
        """Admit who fits, and give everybody who runs the pages of the next step."""
        self._admit()
        plan = Plan()
        readers = sum(s.reading_prompt for s in self.running)
        share = self.chunk // power_of_two(readers) if readers else 0
        share = max(share, min(LEAST, self.chunk))
        places = max(self.chunk // share, 1)
        names: set[bytes] = set()  # of the pages of prompts that this step fills
        for sequence in list(self.running):
            if sequence.row is None:  # had to give way to an older one just now
                continue
            if not sequence.reading_prompt:
                if self._grow(sequence, sequence.computed + 1):
                    plan.decoding.append(sequence)
            elif len(plan.reading) < places:
                self._plan_reading(sequence, share, names, plan)
        return plan

    def _plan_reading(
        self, sequence: Sequence, share: int, names: set[bytes], plan: Plan
    ) -> None:
        """The next chunk of a prompt, unless somebody else is just reading the same."""
        self._adopt(sequence)
        size, start = self.table.page_size, sequence.computed
        end = min(start + share, sequence.prompt_length)
        if end < sequence.prompt_length and end // size * size > start:
            end = end // size * size  # at a page's end what comes next may be known
        mine = sequence.names[start // size : end // size]
        if names.intersection(mine):
            return  # a step later these pages are there to be shared
        if self._grow(sequence, end):
            plan.reading.append((sequence, end))
            names.update(mine)

    def _admit(self) -> None:
        while self.waiting and self.rows and self._fits(self.waiting[0]):
            sequence = self.waiting.popleft()
            sequence.row = self.rows.pop()
            self.running.append(sequence)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether its text so far has room beside what is promised to the others.

        One page more for each of them: who joins shouldn't drive another out at once.
        """
        if not self.running:
            return True
        users, known = self.pool.users, self.pool.known
        shared = sum(users[known[n]] > 0 for n in sequence.names if n in known)
        wanted = self.most_pages(len(sequence.ids)) - shared + len(self.running)
        promised = 0
        for other in self.running:
            lacking = self.most_pages(len(other.ids)) - self.table.ends[other.row]
            promised += max(lacking, 0)
        return wanted + promised <= self.pool.available

    def _adopt(self, sequence: Sequence) -> None:
        """Take over pages of the prompt that are known; its last token is read anew."""
        size, row = self.table.page_size, sequence.row
        adopted = 0
        while sequence.computed % size == 0:
            number = sequence.computed // size
            if (number + 1) * size >= sequence.prompt_length:
                break
            if self.table.ends[row] > number or number >= len(sequence.names):
                break  # it has a page of its own there, or is not to be shared
            page = self.pool.share(sequence.names[number])
            if page is None:
                break
            self.table.put(row, [page])
            sequence.computed += size
            adopted += size
            self.table.give_back(row, sequence.computed)
        if not sequence.preempted:
            sequence.handle.completions[sequence.index].cached_tokens += adopted

    def _grow(self, sequence: Sequence, length: int) -> bool:
        """Pages for `length` tokens, from those who came later if need be."""
        while sequence.row is not None:
            try:
                self.fresh += self.table.grow(sequence.row, length)
                return True
            except OutOfPages:
                self._preempt(self.running[-1])
        return False

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue; what was chosen so far will be read again."""
        self._leave(sequence)
        sequence.preempted = True
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    def advance(self, sequence: Sequence, end: int) -> None:
        """Its tokens up to `end` are read: remember full pages of the prompt."""
        size, row = self.table.page_size, sequence.row
        for number in range(sequence.computed // size, end // size):
            page = int(self.table.pages[row, number])
            if number < len(sequence.names) and page:
                self.pool.remember(page, sequence.names[number])
        sequence.computed = end
        self.table.give_back(row, end)

    def forget(self) -> None:
        """Nothing that was read so far may serve another request."""
        self.pool.forget()
        for sequence in self.running:
            sequence.names = []

    def remove(self, sequence: Sequence) -> None:
        """It has ended, wherever it was: all its memory is free."""
        if sequence.row is not None:
            self._leave(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _leave(self, sequence: Sequence) -> None:
        self.table.drop(sequence.row)
        self.rows.append(sequence.row)
        self.running.remove(sequence)
        sequence.row, sequence.computed = None, 0
