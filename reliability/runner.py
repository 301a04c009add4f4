"""Run a row part by part; what is done is kept, so that hours can be interrupted."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliability.row import Row, Tally

ROOT = Path(__file__).resolve().parent.parent
PROGRESS = ROOT / "reliability" / "progress"


@dataclass
class Result:
    """A row's trials on the real build and on the broken one."""

    quick: bool
    tally: Tally = field(default_factory=Tally)
    broken: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    checked: bool = True  # False: only the broken build was run


@functools.cache  # what this process has loaded, even if a file changes later
def sources() -> str:
    """A fingerprint of the code under test and of the harness: other code, other
    results."""
    digest = hashlib.sha256()
    paths = [ROOT / "tests" / name for name in ("engines.py", "serving.py")]
    for folder in ("src/folio", "reliability"):
        paths += sorted((ROOT / folder).rglob("*.py"))
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run_row(row: Row, quick: bool, again: bool, broken_only: bool = False) -> Result:
    """All parts of a row, then parts of the broken build until one has failed."""
    result, start = Result(quick, checked=not broken_only), time.perf_counter()
    sources()
    if not broken_only:
        done = {} if quick or again else _read(row)
        for part, arguments in row.parts(quick).items():
            if part not in done:
                done[part] = _part(row, arguments)
                if not quick:
                    _write(row, done)
                print(f"  {row.name} {part}: {_short(done[part])}", flush=True)
            result.tally.add(done[part])
    for arguments in (*row.parts(True).values(), *row.parts(False).values()):
        if not result.broken.failures:
            with row.broken():
                result.broken.add(_part(row, arguments))
    result.seconds = time.perf_counter() - start
    return result


def _part(row: Row, arguments: dict[str, Any]) -> Tally:
    with tempfile.TemporaryDirectory(prefix="folio-") as home:
        place = Path(home).resolve()
        tally = row.work(place, **arguments)
    tally.failures = [each.replace(str(place), "HOME") for each in tally.failures]
    return tally


def _short(tally: Tally) -> str:
    counts = ", ".join(f"{name} {n}" for name, n in tally.counts.most_common(6))
    return f"{tally.trials} trials, {len(tally.failures)} failures; {counts}"


def _read(row: Row) -> dict[str, Tally]:
    """The parts that have been done with these very sources."""
    path = PROGRESS / f"{row.name}.json"
    if not path.is_file():
        return {}
    kept = json.loads(path.read_text())
    if kept["sources"] != sources():
        return {}
    return {
        part: Tally(values["trials"], values["failures"], Counter(values["counts"]))
        for part, values in kept["parts"].items()
    }


def _write(row: Row, done: dict[str, Tally]) -> None:
    PROGRESS.mkdir(exist_ok=True)
    parts = {part: tally.as_json() for part, tally in done.items()}
    text = json.dumps({"sources": sources(), "parts": parts}, indent=1)
    (PROGRESS / f"{row.name}.json").write_text(text)
