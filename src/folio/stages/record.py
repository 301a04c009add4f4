"""The record of an experiment: what ran, what came out, and how to run it again."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from folio import __version__
from folio.config import UserError
from folio.files import write_atomically
from folio.runtime import git_commit, machine
from folio.stages.assemble import Say
from folio.stages.experiment import Experiment, Trial, tokens_read
from folio.stages.findings import find
from folio.viz.experiment import figure, render_experiment
from folio.viz.folder import Run, read_run

Facts = dict[str, dict[str, float]]  # what each variant costs, by name


def make_record(
    path: Path, experiment: Experiment, trials: Sequence[Trial], facts: Facts
) -> dict[str, Any]:
    """All that the page, the figure and the book need, in plain numbers.

    No times: they would tell of the machine's other work, and the losses don't depend
    on it.
    """
    runs = {
        variant: [read_run(t.folder) for t in trials if t.variant == variant]
        for variant in experiment.variants
    }
    check_text(runs)
    found = find(experiment.metric, experiment.curves, runs)
    for variant, numbers in found["variants"].items():
        numbers |= facts[variant] | {"changes": experiment.variants[variant]}
    return {
        "title": experiment.title,
        "question": experiment.question,
        "note": experiment.note,
        "command": f"folio compare {path.parent.name}/{path.name}",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine()["machine"],
        "versions": {
            "folio": __version__,
            "python": platform.python_version(),
            "torch": machine()["torch"],
        },
        "seeds": list(experiment.seeds),
        "tokens": tokens_read(trials[0].recipe),
        "equal": experiment.equal,
        "metric": experiment.metric,
        **found,
    }


def check_text(runs: dict[str, list[Run]]) -> None:
    """Runs of one seed must have read one text: a corpus may change meanwhile."""
    for same_seed in zip(*runs.values(), strict=True):
        first, *others = same_seed
        for run in others:
            if run.get("data", "fingerprint") != first.get("data", "fingerprint"):
                raise UserError(
                    f"{run.path} and {first.path} have read different texts; remove "
                    "the older one to run it again"
                )


def commit() -> str | None:
    """The commit of the sources, with '+' if they had changes; None outside git."""
    name = git_commit()
    if name is None:
        return None
    done = subprocess.run(
        ["git", "status", "--porcelain", "--", "."],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    return name + ("+" if done.stdout.strip() else "")


def write_record(
    record: dict[str, Any], results: Path, home: Path, say: Say = print
) -> Path:
    """NAME.json and NAME.svg into `results`, compare.html into `home`, a table here."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{record['name']}.json"
    write_atomically(path, to_json(record))
    write_atomically(path.with_suffix(".svg"), figure(record))
    say(table_text(record))
    say(f"record {path}")
    say(f"page   {write_atomically(home / 'compare.html', render_experiment(record))}")
    return path


def to_json(record: dict[str, Any]) -> str:
    """One line for each variant and each curve: short, and readable in a diff.

    >>> print(to_json({"a": 1, "b": {"x": [1, 2], "y": {}}}), end="")
    {
     "a": 1,
     "b": {
      "x": [1, 2],
      "y": {}
     }
    }
    """
    lines = []
    for key, value in record.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict) and value:
            inner = [
                f"  {json.dumps(name)}: {json.dumps(each, ensure_ascii=False)}"
                for name, each in value.items()
            ]
            text = "{\n" + ",\n".join(inner) + "\n }"
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def table_text(record: dict[str, Any]) -> str:
    """The main numbers for a terminal."""
    first = next(iter(record["variants"]))
    rows = [["", record["metric"], "± error", f"against {first}", "verdict"]]
    rows[0] += ["parameters", "active", "cache B/token"]
    for name, found in record["variants"].items():
        error, gap = found["standard_error"], found.get("difference", {})
        rows.append(
            [
                name,
                f"{found['mean']:.4f}",
                "" if error is None else f"{error:.4f}",
                f"{gap['mean']:+.4f}" if gap else "",
                gap.get("verdict", ""),
                f"{found['parameters']:,}",
                f"{found['active_parameters']:,}",
                f"{found['cache_bytes_per_token']:,.0f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    )
