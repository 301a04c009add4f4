"""What every benchmark shares: fair timing, and a record of what was measured.

A benchmark is `bench/NAME.py`. It measures one thing beside its peer in one run:

    arguments = parse_arguments(__doc__)
    seconds = interleave({"folio": ours, "peer": theirs}, rounds=9, foreign=0.3)
    ratio = median(seconds["peer"]) / median(seconds["folio"])
    record("NAME", ratio, goal=2.5, rows=rows_of(seconds))

`--quick` must finish within a minute. The last line printed is `NAME VALUE GOAL`,
and `bench/results/NAME.json` says what ran, when, on what, and every row.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from folio import runtime
from folio.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PEERS = (
    "torch",
    "numpy",
    "numba",
    "regex",
    "rustbpe",
    "safetensors",
    "tiktoken",
    "tokenizers",
    "transformers",
    "trl",
)


def parse_arguments(
    description: str, *more: tuple[str, dict[str, Any]]
) -> argparse.Namespace:
    """The command line of a benchmark: `--quick`, and (flag, options) pairs of its own.

    `parse_arguments(__doc__, ("--peer", {"required": True}))` adds `--peer PATH`.
    """
    parser = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    for flag, options in more:
        parser.add_argument(flag, **options)
    return parser.parse_args()


# --- timing ------------------------------------------------------------------


def interleave(
    functions: dict[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 1,
    foreign: float | None = None,
) -> dict[str, list[float]]:
    """Wall seconds of each function per round, called A B, B A, A B ...

    Machines drift by a third within an hour, so only what ran side by side may be
    compared; every second round is reversed, so that none is always first. A round
    in which other programs kept more than `foreign` cores busy is thrown away and run
    again, at most `rounds` times in all; after that, rounds count as they come.
    """
    for _ in range(warmup):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    done = thrown_away = 0
    while done < rounds:
        names = list(functions) if done % 2 == 0 else list(reversed(functions))
        start = _cpu_seconds()
        took = {name: time_once(functions[name]) for name in names}
        busy = foreign is not None and _foreign_cores(start, _cpu_seconds()) > foreign
        if busy and thrown_away < rounds:
            thrown_away += 1
            continue
        for name, value in took.items():
            seconds[name].append(value)
        done += 1
    if thrown_away:
        print(f"note: {thrown_away} rounds under foreign load thrown away")
    return seconds


def time_once(function: Callable[[], Any]) -> float:
    """Wall seconds of one call; work queued on a GPU is waited for."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median(values: Sequence[float]) -> float:
    """The middle value: one slow round does not move it.

    >>> median([1.0, 9.0, 2.0])
    2.0
    """
    return statistics.median(values)


def rows_of(seconds: dict[str, list[float]], **facts: Any) -> list[dict[str, Any]]:
    """One row per timed function: its median, its spread and every round.

    >>> rows_of({"folio": [2.0, 1.0, 3.0]}, unit="step")[0]["median_s"]
    2.0
    """
    return [
        {
            "name": name,
            **facts,
            "median_s": median(values),
            "least_s": min(values),
            "most_s": max(values),
            "rounds_s": values,
        }
        for name, values in seconds.items()
    ]


def load(interval: float = 0.5) -> float:
    """Cores kept busy by other programs, measured over `interval` seconds.

    About zero on an idle machine; not a number where /proc is absent.
    """
    start = _cpu_seconds()
    time.sleep(interval)
    return _foreign_cores(start, _cpu_seconds())


def _foreign_cores(
    start: tuple[float, float, float], end: tuple[float, float, float]
) -> float:
    """Cores that others used between two readings of `_cpu_seconds`.

    >>> _foreign_cores((10.0, 50.0, 7.0), (12.0, 53.0, 9.0))  # 3 s worked, 2 s ours
    0.5
    """
    wall, everyone, ours = (
        after - before for before, after in zip(start, end, strict=True)
    )
    if math.isnan(everyone):
        return everyone
    return max(0.0, (everyone - ours) / wall)


def _cpu_seconds() -> tuple[float, float, float]:
    """(wall clock, seconds all cores worked, seconds this process and children did)."""
    spent = os.times()
    ours = spent.user + spent.system + spent.children_user + spent.children_system
    try:
        ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    except OSError:
        return time.perf_counter(), float("nan"), ours
    user, nice, system, _idle, _wait, interrupts, soft = map(int, ticks)
    worked = (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), worked, ours


# --- the record --------------------------------------------------------------


def record(
    name: str,
    value: float,
    goal: float,
    rows: list[dict[str, Any]],
    higher_is_better: bool = True,
) -> Path:
    """Write `bench/results/NAME.json` and print the last line, `NAME VALUE GOAL`.

    `value` is what the goal is about, nearly always a ratio to the peer in the same
    run; `rows` holds the absolute figures behind it. Returns the file written.
    """
    met = value >= goal if higher_is_better else value <= goal
    result = {
        "name": name,
        "value": value,
        "goal": goal,
        "higher_is_better": higher_is_better,
        "met": met,
        "command": command(),
        "quick": "--quick" in sys.argv,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"{name} {value:.4g} {goal:.4g}", flush=True)
    return path


def machine() -> dict[str, Any]:
    """What it ran on: processor, cores, threads, memory, accelerator, other load."""
    return runtime.machine() | {
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "busy_cores": round(load(), 2),
    }


def versions() -> dict[str, str]:
    """Python, Folio and those of the peers that are installed."""
    found = {"python": platform.python_version()}
    for package in ("folio-llm", *PEERS):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def commit() -> str | None:
    """The commit measured, with '+' when the checkout had changes; None outside git."""
    name = runtime.git_commit()
    if name is None:
        return None
    changes = ["git", "status", "--porcelain", "--", "src", "bench/*.py"]
    done = subprocess.run(changes, cwd=ROOT, capture_output=True, text=True)
    return name + ("+" if done.stdout.strip() else "")


def command() -> str:
    """The command line without anyone's folders: paths relative to the checkout,
    and of a path outside it only the last part."""
    words = [_public(word) for word in sys.argv]
    return shlex.join(["python", *words])


def _public(word: str) -> str:
    flag, equals, value = (
        word.partition("=") if word.startswith("--") else ("", "", word)
    )
    path = Path(value).expanduser()
    if not path.is_absolute() and ".." not in path.parts:
        return word
    path = Path(os.path.normpath(Path.cwd() / path))
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
    return f"{flag}{equals}{shown.as_posix()}"


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return round(size / 2**30, 1)
