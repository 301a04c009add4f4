"""What each topic says of itself, and how its trials are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Trials made, what each failure was, and whatever else is worth counting.

    A failure's text begins with the seed and number that make it happen again.

    >>> tally = Tally()
    >>> tally.note("seed 0, trial 1", None, "fell back")
    >>> tally.note("seed 0, trial 2", "step 3 is gone", "fell back")
    >>> tally.trials, tally.failures, dict(tally.counts)
    (2, ['seed 0, trial 2: step 3 is gone'], {'fell back': 2})
    """

    trials: int = 0
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, where: str, problem: str | None, *kinds: str) -> None:
        """One trial: `problem` is None if all was well; `kinds` are counted."""
        self.trials += 1
        self.counts.update(kinds)
        if problem is not None:
            self.failures.append(f"{where}: {problem}")

    def add(self, other: Tally) -> None:
        self.trials += other.trials
        self.failures += other.failures
        self.counts += other.counts

    def as_json(self) -> dict[str, Any]:
        return {
            "trials": self.trials,
            "failures": self.failures,
            "counts": dict(self.counts),
        }


Arguments = dict[str, Any]  # JSON: they are written down with what came of them


@dataclass(frozen=True)
class Row:
    """One promise and its test.

    `parts(quick)` cuts the work in pieces that can be done one at a time, each with a
    name and the arguments of `work(home, **arguments)`, where `home` is an empty
    folder. `broken()` spoils Folio while it is held, as `sabotage` says; `work` must
    then fail. `settled(tally)` says what else a run needs to count.
    """

    number: int
    name: str
    promise: str
    parts: Callable[[bool], dict[str, Arguments]]
    work: Callable[..., Tally]
    sabotage: str
    broken: Callable[[], AbstractContextManager[None]]
    settled: Callable[[Tally], str | None] = lambda tally: None


def seeds(total: int, each: int, **arguments: Any) -> dict[str, Arguments]:
    """`total` trials in parts of `each`, with a seed for every part.

    >>> seeds(5, 2, size="small")
    {'0': {'seed': 0, 'trials': 2, 'size': 'small'}, \
'1': {'seed': 1, 'trials': 2, 'size': 'small'}, \
'2': {'seed': 2, 'trials': 1, 'size': 'small'}}
    """
    return {
        str(seed): {"seed": seed, "trials": min(each, total - first)} | arguments
        for seed, first in enumerate(range(0, total, each))
    }


def upper_bound(trials: int, failures: int) -> float | None:
    """With 95 % confidence, failures are rarer than this; None if some were seen.

    For 0 of n it is 1 - 0.05**(1/n), about 3/n ("the rule of three").

    >>> round(upper_bound(1000, 0), 5)
    0.00299
    """
    return 1 - 0.05 ** (1 / trials) if trials and not failures else None
