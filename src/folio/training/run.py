"""A run's folder: everything a training leaves behind, readable without us."""

from __future__ import annotations

import json
import math
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from folio import __version__
from folio.config import UserError, read_toml, to_toml
from folio.files import LOCK, remove_temporary, write_atomically
from folio.runtime import git_commit, machine
from folio.training.log import forget_after, read_rows
from folio.training.snapshot import snapshot_paths

# Changing these between two parts of one run is fine; it is printed and recorded.
MAY_CHANGE = (
    *("train.steps", "train.keep", "train.save_every", "train.device", "log."),
    *("train.batch", "train.accumulate", "parallel."),  # an update stays as large
)


@dataclass(frozen=True)
class Run:
    """The paths inside one run's folder."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.toml"

    @property
    def info(self) -> Path:
        return self.folder / "run.json"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots"

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.jsonl"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    def read_info(self) -> dict[str, Any]:
        """What run.json says; empty if there is none yet."""
        if not self.info.is_file():
            return {}
        try:
            return json.loads(self.info.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.info}: not valid JSON: {error}") from None

    def update_info(self, **values: Any) -> None:
        """Lay `values` over run.json."""
        text = json.dumps(self.read_info() | values, indent=2, ensure_ascii=False)
        write_atomically(self.info, text + "\n")

    def note(self, text: str) -> None:
        """Record something a reader of the results must know."""
        self.update_info(notes=[*self.read_info().get("notes", []), text])


def open_run(
    folder: Path,
    recipe: Any,
    *,
    resume: bool,
    command: str,
    say: Callable[[str], None] = print,
) -> Run:
    """Start a run in `folder`, or go on with the one that is there.

    Without `resume` a folder that holds a run is refused; with it, one that was made
    by another recipe is refused, and the first difference named.
    """
    run = Run(folder)
    changes: list[str] = []
    if run.recipe.is_file() or snapshot_paths(run.snapshots):
        if not resume:
            raise UserError(
                f"{folder} already holds a run; add --resume to go on with it, or "
                "choose another folder with --run"
            )
        changes = _allowed_changes(run, recipe)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    for place in (run.folder, run.model, run.figures, run.snapshots):
        remove_temporary(place)
    write_atomically(run.recipe, to_toml(recipe))
    if not run.info.is_file() or not snapshot_paths(run.snapshots):
        run.update_info(
            folio=__version__,
            commit=git_commit(),
            **machine(),
            command=command,
            started=_now(),
            seed=recipe.seed,
            parent=None,
            notes=[],
        )
    for change in changes:
        say(f"resumed with a change: {change}")
        run.note(f"resumed with a change: {change}")
    run.update_info(status="running", finished=None)
    return run


@contextmanager
def undone_if_refused(folder: Path) -> Iterator[None]:
    """What a new run put into `folder` is removed if it fails before it has learned.

    A text that can't be read, or a context that is too long, is found only when the
    folder has been begun; a second try, with the mistake mended, must not find it
    taken. Only the user's errors undo; hold the folder's lock around this.
    """
    run = Run(folder)
    before = {path.name for path in folder.iterdir()} | {LOCK}
    try:
        yield
    except UserError:
        begun = snapshot_paths(run.snapshots) or read_rows(run.metrics)
        if run.recipe.name not in before and not begun:
            for path in folder.iterdir():
                if path.name in before:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
        raise


def _allowed_changes(run: Run, recipe: Any) -> list[str]:
    """How `recipe` differs from the run's own; UserError if it may not."""
    old, new = flat(read_toml(run.recipe)), flat(tomllib.loads(to_toml(recipe)))
    changes = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        change = f"{key} was {old.get(key)!r} and is now {new.get(key)!r}"
        if not key.startswith(MAY_CHANGE):
            raise UserError(
                f"{run.folder} belongs to another recipe: {change}; use the same "
                "recipe, or choose another folder with --run"
            )
        changes.append(change)
    return changes


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, the keys dotted.

    >>> flat({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    found = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def rewind(run: Run, step: int) -> None:
    """Drop what was logged after `step`; it will happen again, the same.

    From step 0 on, everything does: the samples of the untrained model, too.
    """
    for path in (run.metrics, run.samples):
        forget_after(path, step or -1)


@dataclass
class Progress:
    """What a run has to remember besides its learner; kept in each snapshot."""

    seconds: float = 0.0  # spent so far, over all parts of the run
    best_loss: float | None = None
    best_step: int | None = None
    counts: dict[str, int] = field(default_factory=dict)  # since the last row of
    sums: dict[str, float] = field(default_factory=dict)  # the log, of each metric

    def add(self, metrics: Mapping[str, float]) -> None:
        """Count the metrics of one update towards the next row of the log."""
        for name, value in metrics.items():
            self.counts[name] = self.counts.get(name, 0) + 1
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take_means(self) -> dict[str, float]:
        """The mean of each metric since the last row; the next row begins anew."""
        means = {n: value / self.counts[n] for n, value in self.sums.items()}
        self.counts, self.sums = {}, {}
        return means

    def improves(self, loss: float, step: int) -> bool:
        """Note a validation loss; True if it is the lowest so far."""
        if not math.isfinite(loss):
            return False
        if self.best_loss is not None and not loss < self.best_loss:
            return False
        self.best_loss, self.best_step = loss, step
        return True

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)


class Clock:
    """Seconds of a run, going on from what earlier parts of it took."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.before, self.start = progress.seconds, time.perf_counter()

    def read(self) -> float:
        """Seconds since the run began; also noted in `progress`."""
        self.progress.seconds = self.before + time.perf_counter() - self.start
        return self.progress.seconds


def finish_run(run: Run, status: str, step: int, **results: Any) -> None:
    """Write down how the run ended."""
    try:
        run.update_info(status=status, finished=_now(), step=step, **results)
    except UserError:
        if status == "finished":
            raise
        # Else an error is under way that says more than "run.json: disk full".


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
