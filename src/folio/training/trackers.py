"""TensorBoard and Weights & Biases: the same log, where people like to look at it.

A tracker gets each row of metrics.jsonl as it is written, and what the run's folder
has of a step besides: samples as text, attention as pictures. The recipe goes along as
hyperparameters. Nothing is logged here that the folder doesn't hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from folio.config import UserError
from folio.training.learner import Learner
from folio.training.log import Sink, read_rows
from folio.training.loop import Hook, Metrics
from folio.training.run import Run, flat

INSTALL = "is not installed: pip install 'folio-llm[track]'"
JUDGED_BY = ("loss", "val_loss", "reward")  # shown beside hyperparameters, if logged


class Tracker(Sink, Protocol):
    """A sink that can show more than numbers."""

    def show_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None: ...

    def show_image(self, step: int, name: str, pixels: np.ndarray) -> None: ...


class TensorBoard:
    """Event files for TensorBoard, in `folder`.

    `after`: the step that a run goes on from; what was shown of later ones is hidden.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], after: int = 0):
        try:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams
        except ImportError:
            raise UserError(f"TensorBoard {INSTALL}") from None
        hidden = after + 1 if after else None
        self.writer = SummaryWriter(str(folder), purge_step=hidden)
        values = {key: _simple(value) for key, value in flat(dict(config)).items()}
        for summary in hparams(values, dict.fromkeys(JUDGED_BY)):
            self.writer.file_writer.add_summary(summary)

    def write(self, row: Mapping[str, Any]) -> None:
        for key, value in row.items():
            if key != "step" and isinstance(value, (int, float)):
                self.writer.add_scalar(key, value, row["step"])

    def show_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        for number, sample in enumerate(samples, 1):
            text = sample["prompt"] + sample["text"]
            indented = "\n".join("    " + line for line in text.splitlines())
            self.writer.add_text(f"samples/{number}", indented, step)

    def show_image(self, step: int, name: str, pixels: np.ndarray) -> None:
        self.writer.add_image(name, pixels, step, dataformats="HW")

    def close(self) -> None:
        self.writer.close()


def _simple(value: Any) -> bool | int | float | str:
    """What TensorBoard takes as a hyperparameter."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


class Wandb:
    """Weights & Biases; WANDB_MODE=offline keeps everything on this machine.

    A run that goes on is the same run there, known by its folder and when it began.
    What it relives is equal to what it showed before; wandb keeps the first.
    """

    def __init__(self, run: Run, name: str, config: Mapping[str, Any]):
        try:
            import wandb
        except ImportError:
            raise UserError(f"wandb {INSTALL}") from None
        self.wandb = wandb
        self.there = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "folio"),
            id=_id_of(run),
            name=name,
            dir=str(run.folder),
            config=dict(config),
            resume="allow",
        )

    def write(self, row: Mapping[str, Any]) -> None:
        values = {key: value for key, value in row.items() if key != "step"}
        self.there.log(values, step=row["step"])

    def show_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        rows = [[step, sample["prompt"], sample["text"]] for sample in samples]
        table = self.wandb.Table(columns=["step", "prompt", "text"], data=rows)
        self.there.log({"samples": table}, step=step)

    def show_image(self, step: int, name: str, pixels: np.ndarray) -> None:
        self.there.log({name: self.wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        self.there.finish()


def _id_of(run: Run) -> str:
    """The same whenever this run goes on, another for a new one in its place."""
    began = run.read_info().get("started")
    return hashlib.sha256(f"{run.folder.resolve()} {began}".encode()).hexdigest()[:12]


# ---- what the folder has besides numbers ---------------------------------------------


def show_files(trackers: Sequence[Tracker], run: Run) -> Hook:
    """Show what was written of this step; to come after the hooks that write it."""
    attention = run.figures / "attention.json"
    known = {path: _version(path) for path in (run.samples, attention)}

    def changed(path: Path) -> bool:
        before, known[path] = known[path], _version(path)
        return known[path] not in (None, before)

    def hook(learner: Learner, metrics: Metrics) -> None:
        step = learner.step
        if changed(run.samples):
            rows = [row for row in read_rows(run.samples) if row["step"] == step]
            for tracker in trackers:
                tracker.show_samples(step, rows)
        if changed(attention):
            newest = json.loads(attention.read_text(encoding="utf-8"))["steps"][-1]
            for tracker in trackers:
                tracker.show_image(step, "attention", attention_grid(newest))

    return hook


def _version(path: Path) -> tuple[int, int] | None:
    """Another one whenever the file was written again; None: there is none."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def attention_grid(entry: Mapping[str, Any]) -> np.ndarray:
    """One entry of attention.json as a gray picture: a row of heads for each layer.

    A line of one pixel is between them; white is a weight of one.

    >>> weights = base64.b64encode(bytes([0, 255])).decode()
    >>> attention_grid({"shape": [1, 2, 1, 1], "weights": weights}).tolist()
    [[0, 64, 255, 64], [64, 64, 64, 64]]
    """
    layers, heads, size, _ = entry["shape"]
    data = np.frombuffer(base64.b64decode(entry["weights"]), np.uint8)
    grid = np.full((layers, size + 1, heads, size + 1), 64, np.uint8)
    weights = data.reshape(layers, heads, size, size)
    grid[:, :size, :, :size] = weights.transpose(0, 2, 1, 3)
    return grid.reshape(layers * (size + 1), heads * (size + 1))
