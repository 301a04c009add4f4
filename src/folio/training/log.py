"""What a run says while it goes: rows of numbers, one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from folio.config import UserError
from folio.files import write_atomically


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Is it a row of held-out measures, not one of training?"""
    return "lr" not in row


class Sink(Protocol):
    """Somewhere metrics go."""

    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line, flushed as it is written."""

    def __init__(self, path: Path):
        self.file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        clean = {key: _plain(value) for key, value in row.items()}
        try:
            self.file.write(json.dumps(clean, ensure_ascii=False) + "\n")
            self.file.flush()
        except OSError as error:
            raise UserError(
                f"could not write {self.file.name}: {error.strerror}; free some space, "
                "then --resume"
            ) from None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # `write` has said it already
            self.file.close()


def _plain(value: Any) -> Any:
    """JSON has no infinities: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a JSON-lines file; a torn last line is dropped."""
    if not path.is_file():
        return []
    rows = []
    # Bytes, because a line may be torn inside a character.
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: not valid JSON") from None
    return rows


def forget_after(path: Path, step: int) -> None:
    """Drop rows past `step`: they belong to a future that is about to be relived."""
    if path.is_file():
        rows = [row for row in read_rows(path) if row["step"] <= step]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(path, text)
