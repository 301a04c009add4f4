"""What a run left on disk, read and checked.

Only `metrics.jsonl` must be there. Everything else is left out of a report when it is
missing, and is an error with file and line when it is damaged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folio.config import UserError, read_toml

# What every row of the log may have; any other number gets a small chart of its own.
CLOCKS = ("step", "seconds", "tokens", "pairs")
KNOWN = frozenset(
    {
        *CLOCKS,
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "pairs_per_second",
        "val_loss",
        "val_perplexity",
        "val_bits_per_byte",
    }
)


@dataclass(frozen=True)
class Run:
    """One run folder. `rows` are the lines of the log, in order of their steps."""

    path: Path
    rows: list[dict[str, Any]]
    recipe: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    name: str = ""

    def column(self, key: str, clock: str = "step") -> tuple[list, list]:
        """The values of `key` over `clock`, from the rows that have both."""
        pairs = [
            (row[clock], float(row[key]))
            for row in self.rows
            if is_number(row.get(key)) and is_number(row.get(clock))
        ]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def number_keys(self) -> list[str]:
        """All numbers in the log, in the order in which they first appear."""
        rows = self.rows
        keys = (key for row in rows for key in row if is_number(row[key]))
        return list(dict.fromkeys(keys))

    def extra_keys(self) -> list[str]:
        """Numbers in the log that this package has no special drawing for."""
        return sorted(set(self.number_keys()) - KNOWN)

    def get(self, *keys: str) -> Any:
        """`run.info["data"]["name"]`, or None where any part is missing."""
        value: Any = self.info
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def last(self, key: str) -> float | None:
        values = [value for value in self.column(key)[1] if math.isfinite(value)]
        return values[-1] if values else None

    def results(self) -> dict[str, Any]:
        """The final numbers: as recorded, and from the log where nothing is."""
        numbers: dict[str, Any] = {"step": int(self.rows[-1]["step"])}
        steps, losses = self.column("val_loss")
        finite = [
            pair for pair in zip(losses, steps, strict=True) if pair[0] < math.inf
        ]
        measured = [row for row in self.rows if any(map(is_held_out, row))]
        if finite:
            best = numbers["best_step"] = min(finite)[1]
            measured = [
                row for row in measured if row["step"] == best and "val_loss" in row
            ]
        for row in measured[-1:]:
            numbers |= {k: v for k, v in row.items() if is_held_out(k)}
        for key in ("seconds", "tokens", "pairs", "loss", "reward", "kl_sequence"):
            numbers[key] = self.last(key)
        numbers["parameters"] = self.get("parameters", "total")
        if self.get("step") is not None:
            numbers["step"] = self.get("step")
        recorded = self.get("results")
        return numbers | (recorded if isinstance(recorded, dict) else {})


def is_held_out(key: str) -> bool:
    """Whether a quantity is measured on what is never trained on.

    >>> is_held_out("val_loss"), is_held_out("sampled_gold"), is_held_out("gold")
    (True, True, False)
    """
    return key.startswith(("val_", "greedy_", "sampled_"))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def read_run(path: str | Path) -> Run:
    """Read a run folder; UserError names the file, and the line, that is at fault."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no such run folder: {path}")
    recipe = path / "recipe.toml"
    return Run(
        path=path,
        rows=_read_metrics(path / "metrics.jsonl"),
        recipe=read_toml(recipe) if recipe.exists() else {},
        info=read_object(path / "run.json") or {},
        samples=_read_samples(path / "samples.jsonl"),
        tables=[_read_table(path / n) for n in TABLES if (path / n).exists()],
        name=path.resolve().name,
    )


TABLES = ("results.json", "table.json")


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: not there; only a folder that training wrote has it")
    rows = []
    for where, row in read_lines(path):
        if not is_number(row.get("step")):
            raise UserError(f"{where}: 'step' is missing or not a number")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: empty; train for at least one step first")
    return sorted(rows, key=lambda row: row["step"])


def _read_samples(path: Path) -> list[dict[str, Any]]:
    samples = []
    for where, sample in read_lines(path) if path.exists() else ():
        if not is_number(sample.get("step")) or not isinstance(sample.get("text"), str):
            raise UserError(f"{where}: a sample needs a number 'step' and a 'text'")
        samples.append(sample)
    return samples


def _read_table(path: Path) -> dict[str, Any]:
    table = read_object(path)
    columns, rows = table.get("columns"), table.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise UserError(f"{path}: a table needs the lists 'columns' and 'rows'")
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise UserError(f"{path}: row {index} needs {len(columns)} cells")
    return table


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a .jsonl file, each with "file line n" for messages."""
    for index, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path} line {index}", _parse(line, f"{path} line {index}")


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None without the file."""
    return _parse(_read_text(path), str(path)) if path.exists() else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not readable: {error}") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error.msg}; mend it") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names, the way the command line writes them.

    >>> flatten({"seed": 1, "train": {"steps": 9}})
    {'seed': 1, 'train.steps': 9}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
