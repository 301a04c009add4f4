"""A run's folder: everything a training leaves behind, readable without us."""

from __future__ import annotations

import json
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from folio import __version__
from folio.config import UserError, to_toml
from folio.files import write_atomically
from folio.runtime import git_commit, machine
from folio.training.log import forget_after
from folio.training.snapshot import remove_stale, snapshot_paths

# Changing these between two parts of one run is fine; it is printed and recorded.
MAY_CHANGE = ("train.steps", "train.keep", "train.save_every", "train.device", "log.")


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


def open_run(folder: Path, recipe: Any, *, resume: bool, command: str) -> Run:
    """Start a run in `folder`, or go on with the one that is there.

    Without `resume` a folder that holds a run is refused; with it, one that was made
    by another recipe is refused, and the first difference named.
    """
    run = Run(folder)
    if run.recipe.is_file():
        if not resume:
            raise UserError(
                f"{folder} already holds a run; add --resume to go on with it, or "
                "choose another folder with --run"
            )
        _check_same_recipe(run, recipe)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    remove_stale(run.snapshots)
    write_atomically(run.recipe, to_toml(recipe))
    if not run.info.is_file() or not snapshot_paths(run.snapshots):
        run.update_info(
            folio=__version__,
            commit=git_commit(),
            machine=machine(),
            command=command,
            started=_now(),
            seed=recipe.seed,
            parent=None,
            notes=[],
        )
    run.update_info(status="running", finished=None)
    return run


def _check_same_recipe(run: Run, recipe: Any) -> None:
    try:
        old = _flat(tomllib.loads(run.recipe.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{run.recipe}: not valid TOML: {error}") from None
    new = _flat(tomllib.loads(to_toml(recipe)))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        change = f"{key} was {old.get(key)!r} and is now {new.get(key)!r}"
        if not key.startswith(MAY_CHANGE):
            raise UserError(
                f"{run.folder} belongs to another recipe: {change}; use the same "
                "recipe, or choose another folder with --run"
            )
        run.note(f"resumed with a change: {change}")


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def rewind(run: Run, step: int) -> None:
    """Drop what was logged after `step`; it will happen again, the same."""
    for path in (run.metrics, run.samples):
        forget_after(path, step)


@dataclass
class Progress:
    """What a run has to remember besides its learner; kept in each snapshot."""

    seconds: float = 0.0  # spent so far, over all parts of the run
    best_loss: float | None = None
    best_step: int | None = None

    def improves(self, loss: float, step: int) -> bool:
        """Note a validation loss; True if it is the lowest so far."""
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
    run.update_info(status=status, finished=_now(), step=step, **results)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
