"""Numbers in columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from folio.evals.answers import Measure


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lines of equal columns, the first to the left and the others to the right.

    >>> print(aligned([["", "hens"], ["red", "7"], ["speckled", "12"]]))
              hens
    red          7
    speckled    12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        rest = (cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def shown(measure: Measure | None) -> str:
    """A mean and its 95 % interval; a dash for what wasn't measured.

    >>> shown(Measure(0.5, 0.40, 0.6, 96))
    '0.500 [0.40, 0.60]'
    """
    if measure is None:
        return "-"
    return f"{measure.mean:.3f} [{measure.low:.2f}, {measure.high:.2f}]"
