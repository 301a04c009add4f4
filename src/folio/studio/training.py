"""A small training in a process of its own: start it, watch it, stop it, go on."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.config import UserError, read_toml
from folio.studio.runs import Runs
from folio.training.log import read_rows
from folio.training.run import Run
from folio.viz.dialog import notice
from folio.viz.markup import Markup, join, tag
from folio.viz.progress import progress_view

RECIPE = Path(__file__).with_name("train.toml")
MOST_LINES = 200  # of what a training prints
PATIENCE = 30.0  # seconds to save after a stop
SAVED = 130  # the exit status of a run that was interrupted, and has saved

# field: (its name on the page, least, most)
FIELDS = {
    "train.steps": ("steps", 10, 20_000),
    "model.n_layers": ("layers", 1, 12),
    "model.d_model": ("width", 16, 512),
    "model.n_heads": ("heads", 1, 16),
    "train.batch": ("batch", 1, 64),
    "optim.lr": ("learning rate", 1e-6, 1.0),
}
WHOLE = {name for name, (_, least, _) in FIELDS.items() if least >= 1}


def flags_of(values: Mapping[str, float]) -> list[str]:
    """Fields as flags of `folio pretrain`, each checked; a UserError names its field.

    >>> flags_of({"train.steps": 40, "optim.lr": 0.001})
    ['--train.steps', '40', '--optim.lr', '0.001']
    """
    flags = []
    for name, value in values.items():
        title, least, most = FIELDS[name]
        if not isinstance(value, (int, float)) or not least <= value <= most:
            raise UserError(f"{title} = {value!r}: must be from {least:g} to {most:,g}")
        if name in WHOLE and value != int(value):
            raise UserError(f"{title} = {value!r}: must be a whole number")
        flags += [f"--{name}", str(int(value) if name in WHOLE else float(value))]
    return flags


@dataclass
class State:
    """What is to be seen of a training."""

    name: str
    running: bool
    view: Markup
    can_resume: bool


class Training:
    """At most one training at a time, for all who look at the studio."""

    def __init__(self, runs: Runs):
        self.runs = runs
        self.name: str | None = None
        self.lines: deque[str] = deque(maxlen=MOST_LINES)
        self._process: subprocess.Popen | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, name: str, values: Mapping[str, float]) -> None:
        """A new run of that name, with these fields; a UserError if it can't be."""
        folder, flags = self.runs.place(name), flags_of(values)
        if Run(folder).recipe.exists() or folder.is_symlink():
            raise UserError(
                f"{name!r} is a run already: choose another name, or resume"
            )
        self._launch(name, [str(RECIPE), "--run", str(folder), *flags])

    def resume(self, name: str) -> None:
        """Go on with a run that was stopped, by its own recipe."""
        folder = self.runs.place(name)
        recipe = Run(folder).recipe
        if not recipe.is_file():
            raise UserError(f"{name!r} is no run that could go on; start it first")
        self._launch(name, [str(recipe), "--run", str(folder), "--resume"])

    def _launch(self, name: str, arguments: list[str]) -> None:
        with self._lock:
            if self.running:
                raise UserError(f"{self.name!r} is being trained; stop it first")
            self.runs.root.mkdir(parents=True, exist_ok=True)
            self.name = name
            self.lines.clear()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "folio.studio.leash", "pretrain", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for the studio, which passes it on
            )
            self._reader = threading.Thread(
                target=self._read, args=(self._process,), daemon=True
            )
            self._reader.start()

    def _read(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))

    def stop(self) -> None:
        """Interrupt it, as by Ctrl-C: it finishes its step and saves (see `leash`).

        Letting go of the leash can't be missed, as a signal could that comes while
        the process is still starting.
        """
        if not self.running:
            raise UserError("nothing is being trained")
        self._process.stdin.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status; None if it is still running after `timeout` seconds."""
        if self._process is None:
            return None
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join()
        return status

    def close(self) -> None:
        """Leave nobody behind: stop it, give it time to save, then kill it."""
        if self._process is None:
            return
        self._process.stdin.close()
        if self.wait(PATIENCE) is None:
            self._process.kill()
            self.wait()

    def state(self) -> State | None:
        """What it is at; None before the first training."""
        if self.name is None:
            return None
        run, running = Run(self.runs.place(self.name)), self.running
        rows, samples = read_rows(run.metrics), read_rows(run.samples)
        steps = _steps_of(run)
        step = rows[-1]["step"] if rows else 0
        can_resume = not running and run.recipe.is_file() and step < steps
        parts = [self._sentence(running, step, steps)]
        if rows:
            parts.append(progress_view(rows, samples, steps))
        parts.append(self._printed(open_=not rows))
        return State(self.name, running, join(parts), can_resume)

    def _sentence(self, running: bool, step: int, steps: int) -> Markup:
        where = f"{self.name}: step {step:,} of {steps:,}" if steps else self.name
        if running:
            doing = "training" if step else "getting ready: text, tokenizer, model"
            return notice(f"{where}. {doing[0].upper()}{doing[1:]}.", "good")
        status = self.wait()
        if status == 0:
            return notice(f"{where}. Finished. It can be chosen as a run now.", "good")
        if status == SAVED and not step:
            return notice(f"{self.name}: stopped before it had learned anything.")
        if status == SAVED:
            return notice(f"{where}. Stopped and saved: resume goes on from here.")
        last = self.lines[-1] if self.lines else f"exit status {status}"
        return notice(f"{self.name} failed: {last}")

    def _printed(self, open_: bool) -> Markup:
        summary = tag("summary", "What it prints")
        text = tag("pre", "\n".join(list(self.lines)[-40:]) or "…")
        return tag("details", summary, text, class_="printed", open=open_)


def _steps_of(run: Run) -> int:
    """How many steps its recipe asks for; 0 before it has one."""
    if not run.recipe.is_file():
        return 0
    recipe: dict[str, Any] = read_toml(run.recipe)
    return int(recipe.get("train", {}).get("steps", 0))
