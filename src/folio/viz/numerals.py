"""Numbers as people read them."""

from __future__ import annotations

import math


def compact(value: float) -> str:
    """Three significant digits and a unit of a thousand.

    >>> [compact(v) for v in (0, 950, 12_345, 824_320, 1.5e6, 2e9, 7.6e13)]
    ['0', '950', '12.3 K', '824 K', '1.5 M', '2 B', '76 T']
    """
    if not math.isfinite(value):
        return str(value)
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{plain(value / size)} {unit}"
    return plain(value)


def plain(value: float, digits: int = 3) -> str:
    """At least `digits` significant digits, grouped, without trailing zeros.

    >>> [plain(v) for v in (1.8812, 0.00042, 12.0, 1234.5, 2000, 6e-5)]
    ['1.88', '0.00042', '12', '1,234', '2,000', '6e-05']
    """
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 10**digits):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def digits(value: float, count: int = 4) -> str:
    """Exactly `count` significant digits, so that losses can be compared.

    >>> digits(1.49), digits(0.6936), digits(12.3456), digits(0.0123, 2), digits(0)
    ('1.490', '0.6936', '12.35', '0.012', '0')
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:#.{count}g}".rstrip(".")


def exact(value: object) -> str:
    """A cell of a table: whole numbers grouped, others with four decimals or digits.

    >>> [exact(v) for v in (2000, 1.88123, 0.000314, 1234.56, None, True, "x")]
    ['2,000', '1.8812', '0.000314', '1,234.6', '–', 'yes', 'x']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer() and abs(value) >= 1000:
            return f"{value:,.0f}"
        if abs(value) >= 1000:
            return f"{value:,.1f}"
        return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.4g}"
    return str(value)


def duration(seconds: float) -> str:
    """Two units are enough.

    >>> [duration(s) for s in (0.4, 48, 192, 3600, 7_500, 200_000)]
    ['0.4 s', '48 s', '3 min 12 s', '1 h', '2 h 5 min', '2 d 7 h']
    """
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 10:
        return f"{plain(round(seconds, 1))} s"
    whole = round(seconds)
    units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")]
    for index, (size, unit) in enumerate(units):
        if whole >= size:
            text = f"{whole // size} {unit}"
            rest = units[index + 1] if index + 1 < len(units) else None
            more = whole % size // rest[0] if rest else 0
            return f"{text} {more} {rest[1]}" if more else text
    return "0 s"
