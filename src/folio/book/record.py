"""What an experiment of the book leaves: numbers, a drawing, and how they were made."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
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
    text = json.dumps(about | numbers, indent=1, ensure_ascii=False) + "\n"
    write_atomically(results / f"{name}.json", text)
    write_atomically(results / f"{name}.svg", drawing + "\n")
    return results / f"{name}.json"
