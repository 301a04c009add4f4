"""Runs gathered into experiments, their final numbers and their differences."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.viz.folder import Run, flatten, read_run
from folio.viz.svg import COLORS_OF_RUNS

NUMBERS = (
    "sampled_gold",
    "greedy_gold",
    "sampled_accuracy",
    "greedy_accuracy",
    "sampled_exact",
    "val_accuracy",
    "reward",
    "kl_sequence",
    "val_loss",
    "val_perplexity",
    "val_bits_per_byte",
    "best_step",
    "loss",
    "parameters",
    "step",
    "tokens",
    "pairs",
    "seconds",
)
# What is judged by, the first that all runs have; of these, more is better.
RISING = ("sampled_gold", "sampled_accuracy", "sampled_exact", "val_accuracy")
# What a terminal has room for, as far as any run has it.
MAIN = (
    "sampled_gold",
    "greedy_gold",
    "sampled_accuracy",
    "val_accuracy",
    "kl_sequence",
    "val_loss",
    "val_bits_per_byte",
    "parameters",
    "step",
    "seconds",
)
# Facts of run.json that make two runs less comparable when they differ.
FACTS = (
    ("data", "fingerprint"),
    ("tokenizer", "fingerprint"),
    ("machine",),
    ("folio",),
    ("torch",),
)


@dataclass(frozen=True)
class Group:
    """Runs that differ only by seed, the order they were given in, and their color."""

    name: str
    runs: list[Run]
    names: list[str]
    color: str
    dashed: bool = False

    @property
    def title(self) -> str:
        count = len(self.runs)
        return self.name if count == 1 else f"{self.name} ({count} seeds)"

    def mean(self, key: str) -> float | None:
        """The mean of one result over the seeds; None where any run lacks it."""
        values = [run.results().get(key) for run in self.runs]
        if len(set(values)) == 1:
            return values[0]
        return None if None in values else sum(values) / len(values)

    def ends(self, key: str) -> tuple[float, float]:
        values = [run.results()[key] for run in self.runs]
        return min(values), max(values)


def read_runs(paths: Sequence[str | Path]) -> list[Run]:
    if not paths:
        raise UserError("nothing to compare: name one run folder or more")
    seen = set()
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            raise UserError(f"{path}: given twice; name every run once")
        seen.add(real)
    return [read_run(path) for path in paths]


def is_seed(key: str) -> bool:
    """Keys in which repetitions of one experiment may differ.

    >>> is_seed("seed"), is_seed("data.shuffle_seed"), is_seed("data.path")
    (True, True, False)
    """
    last = key.rsplit(".", 1)[-1]
    return last == "seed" or last.endswith("_seed") or key in ("run", "name")


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Gather runs with the same recipe but for the seed, in order of appearance.

    A run without a recipe stays alone: nobody knows what it shares with others.
    """
    gathered: dict[Any, list[int]] = {}
    for index, run in enumerate(runs):
        flat = flatten(run.recipe)
        same = repr(sorted((k, v) for k, v in flat.items() if not is_seed(k)))
        gathered.setdefault(same if flat else index, []).append(index)
    names = distinct_names(runs)
    groups = []
    for place, members in enumerate(gathered.values()):
        own = [names[index] for index in members]
        groups.append(
            Group(
                name=common_name(own),
                runs=[runs[index] for index in members],
                names=own,
                color=f"run-{place % COLORS_OF_RUNS}",
                dashed=place >= COLORS_OF_RUNS,
            )
        )
    return groups


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Folder names; with the folder above where two are the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{run.path.resolve().parent.name}/{name}"
        for run, name in zip(runs, names, strict=True)
    ]


def common_name(names: Sequence[str]) -> str:
    """What the names of a group share, without a dangling "-seed".

    >>> common_name(["tiny-seed1", "tiny-seed2"]), common_name(["a", "b"])
    ('tiny', 'a')
    """
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in same)
    shared = re.sub(r"[-_. ]*(seed|s)?[-_. ]*[0-9]*$", "", shared)
    return shared or names[0]


def compare_table(runs: Sequence[str | Path]) -> list[dict[str, Any]]:
    """The final numbers for a terminal: one row per run, all with the same keys.

    Behind the seeds of a group comes a row with their mean; `val_loss_range` is how
    far its seeds are apart. Recipe keys that differ follow under their dotted names.
    """
    groups = group_runs(read_runs(runs))
    different, rows = differences(groups), []
    for place, group in enumerate(groups):
        recipe = {key: values[place] for key, values in different.items()}
        for name, run in zip(group.names, group.runs, strict=True):
            results = run.results()
            numbers = {key: results.get(key) for key in NUMBERS}
            rows.append({"run": name} | numbers | {"val_loss_range": None} | recipe)
        if len(group.runs) > 1:
            means = {key: group.mean(key) for key in NUMBERS}
            low, high = group.ends("val_loss") if means["val_loss"] else (0, 0)
            title = f"{group.name}, mean of {len(group.runs)}"
            rows.append(
                {"run": title} | means | {"val_loss_range": high - low} | recipe
            )
    return rows


def main_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The numbers of `compare_table` that a terminal should show.

    >>> main_columns([{"sampled_gold": 1.2, "val_loss": None, "step": 9}])
    ['sampled_gold', 'step']
    """
    return [key for key in MAIN if any(row.get(key) is not None for row in rows)]


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Keys of recipes, and facts of runs, that aren't the same in all groups."""
    columns = []
    for group in groups:
        run = group.runs[0]
        flat = {k: v for k, v in flatten(run.recipe).items() if not is_seed(k)}
        facts = {".".join(("run", *fact)): run.get(*fact) for fact in FACTS}
        columns.append(flat | facts)
    keys = dict.fromkeys(key for column in columns for key in column)
    table = {key: [column.get(key) for column in columns] for key in keys}
    return {k: v for k, v in table.items() if any(value != v[0] for value in v)}
