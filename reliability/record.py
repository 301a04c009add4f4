"""What came of a row, as a line on the screen and a file in `results/`."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from folio.files import write_atomically
from folio.runtime import git_commit, machine
from reliability.row import Row, upper_bound
from reliability.runner import ROOT, Result, sources

RESULTS = ROOT / "reliability" / "results"
MOST_FAILURES = 20  # written down one by one


def report(row: Row, result: Result) -> bool:
    """Print and record; True if the promise was kept and the broken build noticed.

    A quick run is printed only: it must not replace what a full one has found.
    """
    values = as_json(row, result)
    for failure in values["first_failures"][:5]:
        print(f"  FAILED {failure}")
    if values["unsettled"]:
        print(f"  DOES NOT COUNT: {values['unsettled']}")
    print(
        f"{row.name}: {values['trials']:,} trials, {values['failures']} failures"
        f" (95 % bound {_percent(values['upper_bound_95'])}); the broken build:"
        f" {values['broken']['failures']} of {values['broken']['trials']}"
        f" {'noticed' if values['broken']['noticed'] else 'NOT NOTICED'}",
        flush=True,
    )
    if result.checked and not result.quick:
        record_facts(row.name, values)
    kept = not values["failures"] and not values["unsettled"]
    return kept and values["broken"]["noticed"]


def record_facts(name: str, values: dict[str, Any]) -> None:
    """Write `results/NAME.json`: the values, and when and on what they were found."""
    RESULTS.mkdir(exist_ok=True)
    facts = {
        "command": shlex.join(["python", "-m", *_called()]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "sources": sources(),
        "machine": machine() | {"load": round(os.getloadavg()[0], 1)},
    }
    text = json.dumps(values | facts, indent=1, ensure_ascii=False) + "\n"
    write_atomically(RESULTS / f"{name}.json", text)


def _called() -> list[str]:
    script = Path(sys.argv[0]).stem
    module = "reliability" if script == "__main__" else f"reliability.{script}"
    return [module, *sys.argv[1:]]


def _percent(bound: float | None) -> str:
    return "none" if bound is None else f"{100 * bound:.2g} %"


def as_json(row: Row, result: Result) -> dict[str, Any]:
    """All that a reader needs to judge the result, and to get it again."""
    tally, broken = result.tally, result.broken
    return {
        "row": row.number,
        "name": row.name,
        "promise": row.promise,
        "trials": tally.trials,
        "failures": len(tally.failures),
        "upper_bound_95": upper_bound(tally.trials, len(tally.failures)),
        "first_failures": tally.failures[:MOST_FAILURES],
        "unsettled": row.settled(tally) if result.checked else None,
        "counts": dict(tally.counts.most_common()),
        "broken": {
            "what": row.sabotage,
            "trials": broken.trials,
            "failures": len(broken.failures),
            "noticed": bool(broken.failures),
            "first": broken.failures[:1],
        },
        "quick": result.quick,
        "seconds": round(result.seconds, 1),
    }
