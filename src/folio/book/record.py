"""What an experiment of the book leaves: numbers, a drawing, and how they were made."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from folio.files import write_atomically
from folio.runtime import git_commit, machine

PACKAGES = ("folio-llm", "torch", "numpy")


def record(name: str, numbers: dict[str, Any], drawing: str, results: Path) -> Path:
    """Write NAME.json and NAME.svg into `results`; `{recorded}` prints them.

    `numbers` are what `{number}` finds. The drawing keeps the names of its colors.
    """
    script = Path(sys.argv[0])
    shown = "/".join(script.parts[-3:]) if script.is_absolute() else script.as_posix()
    about = {
        "name": name,
        "command": shlex.join(["python", shown, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
    }
    results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        about | finite(numbers), indent=1, ensure_ascii=False, allow_nan=False
    )
    write_atomically(results / f"{name}.json", text + "\n")
    write_atomically(results / f"{name}.svg", drawing + "\n")
    return results / f"{name}.json"


def finite(numbers: Any) -> Any:
    """What JSON can say: a loss that is not a number becomes the word for it.

    >>> finite({"losses": [1.5, float("nan")], "gain": -float("inf")})
    {'losses': [1.5, 'nan'], 'gain': '-inf'}
    """
    if isinstance(numbers, dict):
        return {name: finite(one) for name, one in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [finite(one) for one in numbers]
    if isinstance(numbers, float) and not math.isfinite(numbers):
        return str(numbers)
    return numbers
