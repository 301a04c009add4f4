"""Learning-rate schedules: pure functions of the step, as a fraction of the peak.

Step 0 is the first update. Each warms up as (step + 1) / warmup, so that the first
update is small but not nothing, and each stays where it is after the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from folio.config import UserError, nearest

Schedule = Callable[[int], float]


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _progress(step: int, start: int, end: int) -> float:
    """How far from `start` to `end`, in [0, 1]; at 1 from `end` on, come what may."""
    if step >= end:
        return 1.0
    return max(0, step - start) / (end - start) if end > start else 0.0


def constant(warmup: int = 0) -> Schedule:
    """Warm up, then stay at the peak.

    >>> [constant(2)(step) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    return lambda step: _warm(step, warmup)


def warmup_cosine(warmup: int, steps: int, floor: float = 0.1) -> Schedule:
    """Warm up, then half a cosine down to `floor` at `steps`.

    >>> [round(warmup_cosine(2, 6)(step), 2) for step in (0, 1, 2, 4, 6, 99)]
    [0.5, 1.0, 1.0, 0.55, 0.1, 0.1]
    """

    def schedule(step: int) -> float:
        half_turn = math.pi * _progress(step, warmup, steps)
        return _warm(min(step, steps), warmup) * (
            floor + (1 - floor) * 0.5 * (1 + math.cos(half_turn))
        )

    return schedule


def warmup_linear(warmup: int, steps: int, floor: float = 0.0) -> Schedule:
    """Warm up, then a straight line down to `floor` at `steps`.

    >>> [round(warmup_linear(0, 4)(step), 2) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    return lambda step: (
        _warm(min(step, steps), warmup)
        * (1 - (1 - floor) * _progress(step, warmup, steps))
    )


def warmup_stable_decay(
    warmup: int, steps: int, decay: float = 0.2, floor: float = 0.0
) -> Schedule:
    """Warm up, stay at the peak, then fall linearly over the last `decay` of the run.

    Stopping to decay early gives a finished model from any point of a long run
    (Hu et al. 2024, section 4).

    >>> [round(warmup_stable_decay(0, 10, 0.2)(step), 2) for step in (0, 8, 9, 10)]
    [1.0, 1.0, 0.5, 0.0]
    """
    start = steps - round(decay * steps)
    return lambda step: (
        _warm(min(step, steps), warmup)
        * (1 - (1 - floor) * _progress(step, start, steps))
    )


def make_schedule(name: str, warmup: int, steps: int, floor: float) -> Schedule:
    """The schedule that a recipe names."""
    if warmup < 0:
        raise UserError(f"warmup = {warmup}: must be 0 or more")
    if not 0 <= floor <= 1:
        raise UserError(f"floor = {floor}: a fraction of the peak, from 0 to 1")
    makers = {
        "constant": lambda: constant(warmup),
        "cosine": lambda: warmup_cosine(warmup, steps, floor),
        "linear": lambda: warmup_linear(warmup, steps, floor),
        "wsd": lambda: warmup_stable_decay(warmup, steps, floor=floor),
    }
    if name not in makers:
        raise UserError(f"schedule = {name!r}{nearest(name, sorted(makers))}")
    return makers[name]()
