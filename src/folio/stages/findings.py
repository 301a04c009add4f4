"""From finished runs to a record: means, errors, differences and thinned curves.

Variants are compared pair by pair of equal seeds: both runs of a pair have read the
same text in the same order, so what the text contributes cancels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from folio.config import UserError
from folio.viz.experts import read_load
from folio.viz.folder import Run

POINTS, COLUMNS = 60, 40  # of a recorded curve, and of a recorded load
# Two-sided 95 % of Student's t, by degrees of freedom: with three seeds a difference
# must be 4.3 of its standard errors wide to be told from none.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

Runs = Mapping[str, Sequence[Run]]  # variant -> one run per seed


def find(metric: str, curves: Sequence[str], runs: Runs) -> dict[str, Any]:
    """What the runs have shown: "variants", "curves", "differences" and "loads".

    The first variant is the one that the others are compared with.
    """
    lines = {key: _curve(runs, key) for key in matching(curves, runs)}
    baseline, *others = runs
    differences = {name: _gap(runs[name], runs[baseline], metric) for name in others}
    loads = {name: load_over_time(each[0]) for name, each in runs.items()}
    return {
        "variants": final_values(metric, runs),
        "curves": lines,
        "differences": differences,
        "loads": {name: load for name, load in loads.items() if load},
    }


# ---- final values --------------------------------------------------------------------


def final_values(metric: str, runs: Runs) -> dict[str, dict[str, Any]]:
    """Each variant's value per seed, their mean, and how far it is from the first."""
    values = {name: [_last(run, metric) for run in each] for name, each in runs.items()}
    baseline, *others = values
    found = {}
    for name, own in values.items():
        mean, error = mean_and_error(own)
        found[name] = {"values": own, "mean": mean, "standard_error": error}
        if name in others:
            found[name]["difference"] = difference(own, values[baseline])
    return found


def _last(run: Run, key: str) -> float:
    _, values = run.column(key)
    if not values:
        raise UserError(f"{run.path}: its log has no {key!r}; name another metric")
    return values[-1]


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and its standard error (none of a single value).

    >>> mean_and_error([1.0, 2.0, 3.0])
    (2.0, 0.5773502691896258)
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, statistics.stdev(values) / math.sqrt(len(values))


def difference(values: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """How far `values` lie above `others`, pair by pair, and whether that is sure.

    `within` is half the width of the 95 % interval of the mean difference (Student
    1908); "not told apart" says that it holds zero.

    >>> difference([1.2, 1.3, 1.5], [1.1, 1.2, 1.4])["verdict"]
    'higher'
    >>> difference([1.2, 1.1, 1.5], [1.1, 1.2, 1.4])["verdict"]
    'not told apart'
    """
    pairs = [one - other for one, other in zip(values, others, strict=True)]
    mean, error = mean_and_error(pairs)
    if error is None:
        return {"mean": mean, "within": None, "verdict": "one seed only"}
    within = STUDENT[min(len(pairs) - 2, len(STUDENT) - 1)] * error
    verdict = "higher" if mean > 0 else "lower"
    if abs(mean) <= within:
        verdict = "not told apart"
    return {"mean": mean, "within": within, "verdict": verdict}


# ---- curves --------------------------------------------------------------------------


def matching(patterns: Sequence[str], runs: Runs) -> list[str]:
    """The keys of the logs that `patterns` name, in the patterns' order.

    A key may be there for some variants only, as the load of experts is.
    """
    first = [each[0] for each in runs.values()]
    known = {key: None for run in first for row in run.rows for key in row}
    found: dict[str, None] = {}
    for pattern in patterns:
        keys = [key for key in known if fnmatchcase(key, pattern)]
        if not keys:
            raise UserError(f"curves: no run has logged {pattern!r}")
        found |= dict.fromkeys(keys)
    return list(found)


def _curve(runs: Runs, key: str) -> dict[str, dict[str, list]]:
    """Mean, lowest and highest over the seeds of every variant that has `key`."""
    found = {}
    for name, each in runs.items():
        columns = [run.column(key) for run in each]
        if columns[0][0]:
            found[name] = band(columns)
    return found


def _gap(own: Sequence[Run], others: Sequence[Run], key: str) -> dict[str, list]:
    """Over the steps: how far `own` lie above `others` with the same seed."""
    columns = []
    for run, other in zip(own, others, strict=True):
        (x, y), (other_x, other_y) = run.column(key), other.column(key)
        both = dict(zip(other_x, other_y, strict=True))
        pairs = [(s, v - both[s]) for s, v in zip(x, y, strict=True) if s in both]
        columns.append(([s for s, _ in pairs], [gap for _, gap in pairs]))
    return band(columns)


def band(columns: Sequence[tuple[list, list]]) -> dict[str, list]:
    """Several (x, y) as {"x", "mean", "low", "high"}, where all have a finite value.

    >>> band([([1, 2, 3], [5.0, 4.0, 3.0]), ([1, 2], [7.0, 4.0])])
    {'x': [1, 2], 'mean': [6.0, 4.0], 'low': [5.0, 4.0], 'high': [7.0, 4.0]}
    """
    pooled = [dict(zip(*thinned(x, y), strict=True)) for x, y in columns]
    steps = [
        x for x in pooled[0] if all(math.isfinite(p.get(x, math.nan)) for p in pooled)
    ]
    points = [[p[x] for p in pooled] for x in steps]
    return {
        "x": steps,
        "mean": [_short(statistics.fmean(values)) for values in points],
        "low": [_short(min(values)) for values in points],
        "high": [_short(max(values)) for values in points],
    }


def thinned(x: list, y: list, most: int = POINTS) -> tuple[list, list]:
    """At most `most` points: the mean of each few neighbors, at the last one's place.

    >>> thinned([1, 2, 3, 4, 5], [1.0, 3.0, 5.0, 7.0, 9.0], most=3)
    ([2, 4, 5], [2.0, 6.0, 9.0])
    """
    size = math.ceil(len(y) / most) or 1
    places = range(0, len(y), size)
    pools = [statistics.fmean(y[i : i + size]) for i in places]
    return [x[min(i + size, len(x)) - 1] for i in places], pools


def _short(value: float) -> float:
    """Five digits are enough to draw."""
    return float(f"{value:.5g}")


def load_over_time(run: Run) -> dict[str, Any] | None:
    """The shares of the experts at some steps, as the run has recorded them.

    {"layers": [L names], "steps": [S], "shares": S x L x E}; None without experts.
    """
    load = read_load(run.path / "figures" / "experts.json")
    if load is None:
        return None
    load = load.thinned(COLUMNS)
    shares = load.shares.round(3).tolist()
    return {"layers": load.layers, "steps": load.steps, "shares": shares}
