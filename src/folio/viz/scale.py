"""From data to places on paper: scales, ticks, thinning and smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values inside [low, high], about `count`, evenly spaced by 1, 2 or 5 · 10ⁿ.

    >>> nice_ticks(0, 10)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    >>> nice_ticks(1.31, 1.58)
    [1.35, 1.4, 1.45, 1.5, 1.55]
    """
    if not low < high:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((1, 2, 5, 10), key=lambda m: abs(math.log(m * power / rough))) * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first < 1:
        return nice_ticks(low, high, count * 2)
    # Dividing by the inverse keeps 0.1 + 0.2 from becoming 0.30000000000000004.
    decimals = max(0, -math.floor(math.log10(step)))
    return [round(index * step, decimals) + 0.0 for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten in [low, high], joined by 2s and 5s where those are few.

    >>> log_ticks(1, 2000)
    [1.0, 10.0, 100.0, 1000.0]
    >>> log_ticks(0.3, 6)
    [0.5, 1.0, 2.0, 5.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1,), (1, 2, 5)):
        ticks = [m * 10.0**p for p in range(first, last + 1) for m in multiples]
        ticks = [float(f"{tick:.12g}") for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / (2 * count))]
    return nice_ticks(low, high, count)


def tick_labels(ticks: list[float]) -> list[str]:
    """Short labels that still tell neighbors apart.

    >>> tick_labels([0.0, 500.0, 1000.0]), tick_labels([0.0, 2e4, 4e4])
    (['0', '500', '1,000'], ['0', '20 K', '40 K'])
    >>> tick_labels([1.35, 1.4]), tick_labels([0.0001, 0.0002])
    (['1.35', '1.40'], ['1e-4', '2e-4'])
    >>> tick_labels([100.0, 1000.0, 10000.0])  # of a logarithmic axis
    ['100', '1 K', '10 K']
    """
    largest = max(abs(tick) for tick in ticks)
    smallest = min((abs(tick) for tick in ticks if tick), default=largest)
    if 1 <= smallest <= largest / 100:
        return [label for tick in ticks for label in tick_labels([tick])]
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if largest >= size and (largest >= 1e4 or len(ticks) == 1):
            return [f"{t / size:.10g} {unit}" if t else "0" for t in ticks]
    if 0 < largest < 0.01:
        return [_power(tick) for tick in ticks]
    decimals = max(_decimals(tick) for tick in ticks)
    evenly = len(ticks) < 3 or math.isclose(ticks[1] - ticks[0], ticks[-1] - ticks[-2])
    if evenly:
        return [f"{tick:,.{decimals}f}" for tick in ticks]
    return [f"{tick:,.{_decimals(tick)}f}" for tick in ticks]


def _decimals(value: float) -> int:
    text = f"{value:.10f}".rstrip("0")
    return len(text) - text.index(".") - 1


def _power(value: float) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


@dataclass(frozen=True)
class Scale:
    """Maps values from [low, high] to places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value):
        """Works on numbers and arrays; a log scale has no place for 0: it gives nan.

        >>> Scale(0, 10, 100, 200)(2.5), float(Scale(1, 100, 0, 1, log=True)(10))
        (125.0, 0.5)
        """
        low, high = self.low, self.high
        if self.log:
            positive = np.where(np.asarray(value) > 0, value, np.nan)
            value, low, high = np.log10(positive), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        make = log_ticks if self.log else nice_ticks
        return make(self.low, self.high, count)


def fit(values, start: float, end: float, log: bool = False, pad: float = 0.05):
    """A scale with room for all finite values (if `log`, for all positive ones)."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    low, high = (values.min(), values.max()) if values.size else (1.0, 2.0)
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        # One value only: make room around it, more than rounding could swallow.
        room = max(abs(high), 1e-3) * 0.5 if not log else 0.5
        low, high = low - room, high + room
    margin = (high - low) * pad
    low, high = float(low - margin), float(high + margin)
    if log:
        low, high = 10**low, 10**high
    return Scale(low, high, start, end, log)


def subsample(y, limit: int) -> np.ndarray:
    """Indices of at most `limit` points that draw the same line.

    The points are cut into equal runs and each keeps its lowest and highest, so no
    spike is lost; the first and last stay, and so does one non-finite point of a run
    (the gap it makes in the line is news).

    >>> subsample([5, 1, 2, 9, 3, 3, 4, 0], limit=4).tolist()
    [0, 1, 3, 7]
    """
    y = np.asarray(y, dtype=float)
    if len(y) <= limit:
        return np.arange(len(y))
    keep = {0, len(y) - 1}
    for part in np.array_split(np.arange(1, len(y) - 1), max(1, (limit - 2) // 2)):
        finite = part[np.isfinite(y[part])]
        if len(finite) < len(part):
            keep.add(int(part[~np.isfinite(y[part])][0]))
        if len(finite):
            keep |= {int(finite[y[finite].argmin()]), int(finite[y[finite].argmax()])}
    return np.array(sorted(keep))


def smooth(x, y, half: int, at=None) -> np.ndarray:
    """Each point replaced by a line fitted to its `half` neighbors on either side.

    Weights fall to zero with distance (LOESS: Cleveland 1979). Unlike a running mean
    of the past it doesn't lag behind a falling loss, and it keeps straight lines.
    `at` are the indices to do it for; by default all. What is not finite stays so.

    >>> smooth([0, 1, 2, 3], [0.0, 2.0, 4.0, 6.0], half=2).round(6).tolist()
    [0.0, 2.0, 4.0, 6.0]
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    finite = np.flatnonzero(np.isfinite(y))
    wanted = np.arange(len(y)) if at is None else np.asarray(at)
    result = np.full(len(wanted), np.nan)
    for place in np.flatnonzero(np.isfinite(y[wanted])):
        middle = np.searchsorted(finite, wanted[place])
        around = finite[max(0, middle - half) : middle + half + 1]
        result[place] = _fit_line(x[around] - x[wanted[place]], y[around])
    return result


def _fit_line(offset: np.ndarray, y: np.ndarray) -> float:
    """The height at offset 0 of the weighted least-squares line."""
    reach = np.abs(offset).max() * 1.001 or 1.0
    weight = (1 - np.abs(offset / reach) ** 3) ** 3
    total, first, second = (float((weight * offset**n).sum()) for n in (0, 1, 2))
    level, moment = float((weight * y).sum()), float((weight * offset * y).sum())
    spread = total * second - first**2
    if spread <= 1e-12 * total * second:
        return level / total  # all at one place: no line to fit
    return (second * level - first * moment) / spread
