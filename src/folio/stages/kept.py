"""What an evaluation found, as JSON in the folder of its run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from folio.files import write_atomically

Say = Callable[[str], None]
Say = Callable[[str], None]


def write_findings(
    folder: Path,
    name: str,
    options: Mapping[str, Any],
    found: Mapping[str, Any],
    say: Say,
) -> Path:
    """What was asked and what came out, as JSON in the run's folder."""
    content = plain({"options": options, **found})
    path = Path(folder) / name
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")
    say(f"\nwritten to {path}")
    return path


def plain(value: Any) -> Any:
    """For JSON: dataclasses become tables, paths text, what isn't finite null.

    >>> plain({"mean": 1.5, "high": math.inf, "file": Path("a.jsonl")})
    {'mean': 1.5, 'high': None, 'file': 'a.jsonl'}
    """
    if is_dataclass(value):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def options_of(
    data: str | Path | None, tasks: Sequence[str], **others: Any
) -> dict[str, Any]:
    """What was asked for: of which data, and how."""
    return {"data": data, "tasks": list(tasks), **others}
