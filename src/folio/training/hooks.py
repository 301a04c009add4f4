"""What happens beside learning: log, evaluate, sample, look at attention, save, stop.

A hook is a function `(learner, metrics)`, called after every update.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from folio.files import fsync_file, write_atomically
from folio.infer.generate import generate_text
from folio.infer.sampling import Sampling
from folio.model.store import save_model
from folio.runtime import anyone, rank
from folio.text.tokenizer import Tokenizer
from folio.training.learner import Learner
from folio.training.log import JsonLines, Sink
from folio.training.loop import Hook, Metrics
from folio.training.rank_snapshot import prune_together, save_together
from folio.training.run import Clock, Progress, Run
from folio.training.signals import Interrupted, StopRequest
from folio.training.snapshot import prune, save_snapshot


def due(step: int, every: int, last: int) -> bool:
    """Every `every` steps, and at the last; never if `every` is 0.

    >>> [step for step in range(1, 8) if due(step, 3, last=7)]
    [3, 6, 7]
    """
    return every > 0 and (step % every == 0 or step == last)


def write_row(sinks: Sequence[Sink], step: int, clock: Clock, **values: float) -> None:
    """One row to every sink, with the step and the seconds of the run."""
    row = {"step": step, "seconds": round(clock.read(), 3), **values}
    for sink in sinks:
        sink.write(row)


class LogMetrics:
    """Training metrics, every so many steps: means since the last row, and speed.

    Speed counts the time in `Learner.update` and the stream, not that of the other
    hooks: put this hook first, and `resume_clock` last.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        clock: Clock,
        every: int,
        last: int,
        unit: str = "tokens",
    ):
        """`unit`: what the stage's denominators count."""
        self.sinks, self.clock, self.every, self.last = sinks, clock, every, last
        self.unit = unit
        self.progress = clock.progress  # keeps the sums when the run is interrupted
        self.busy = 0.0
        self.tokens_before: float | None = None
        self.since = clock.read()

    def __call__(self, learner: Learner, metrics: Metrics) -> None:
        self.busy += self.clock.read() - self.since
        self.progress.add(metrics)
        if due(learner.step, self.every, self.last):
            self._write(learner, metrics)
        self.since = self.clock.read()

    def _write(self, learner: Learner, metrics: Metrics) -> None:
        means = self.progress.take_means()
        tokens = learner.denominator - (self.tokens_before or 0.0)
        speed = tokens / self.busy if self.tokens_before is not None else None
        write_row(
            self.sinks,
            learner.step,
            self.clock,
            **{**means, "lr": metrics["lr"]},
            **{self.unit: learner.denominator},
            **({} if speed is None else {f"{self.unit}_per_second": round(speed, 1)}),
        )
        self.busy = 0.0
        self.tokens_before = learner.denominator

    def resume_clock(self, learner: Learner, metrics: Metrics) -> None:
        """The last hook of all: what comes now is training again."""
        self.since = self.clock.read()


def evaluate(
    measure: Callable[[], dict[str, float]],
    sinks: Sequence[Sink],
    clock: Clock,
    progress: Progress,
    run: Run,
    *,
    every: int,
    last: int,
    keep: nn.Module,
    best: str | None = "val_loss",
    unit: str = "tokens",
) -> Hook:
    """Measure on held-out data; `model/` has the weights `keep` with the lowest `best`.

    None: it has the newest ones, for what can't be chosen without having looked.
    """

    def hook(learner: Learner, metrics: Metrics) -> None:
        if not due(learner.step, every, last):
            return
        values = measure()
        counted = {unit: learner.denominator}
        write_row(sinks, learner.step, clock, **counted, **values)
        if best is None or progress.improves(values[best], learner.step):
            save_model(keep, run.model)

    return hook


def sample(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    sampling: Sampling,
    max_new_tokens: int,
    run: Run,
    *,
    every: int,
    last: int,
    show: Callable[[int, str, str], None] = lambda step, prompt, text: None,
) -> Hook:
    """Write on from fixed prompts with fixed seeds: samples against training steps."""

    def hook(learner: Learner, metrics: Metrics) -> None:
        if not due(learner.step, every, last):
            return
        log = JsonLines(run.samples)
        for number, prompt in enumerate(prompts):
            text = "".join(
                generate_text(
                    learner.model,
                    tokenizer,
                    prompt,
                    max_new_tokens,
                    sampling=sampling,
                    seed=number,
                )
            )
            log.write(
                {
                    "step": learner.step,
                    "prompt": prompt,
                    "text": text,
                    "temperature": sampling.temperature,
                }
            )
            show(learner.step, prompt, text)
        log.close()

    return hook


def record_attention(
    tokenizer: Tokenizer, text: str, limit: int, run: Run, *, every: int, last: int
) -> Hook:
    """Every layer's and head's pattern on one sentence, as bytes, against steps.

    Only the first `limit` tokens of `text` are looked at.
    """
    ids = tokenizer.encode(text)[:limit]
    path = run.figures / "attention.json"
    tokens = [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in ids]

    def hook(learner: Learner, metrics: Metrics) -> None:
        if not ids or not due(learner.step, every, last):
            return
        was_training = learner.model.training
        learner.model.eval()
        maps = learner.model.attention_maps(torch.tensor([ids], device=learner.device))
        learner.model.train(was_training)
        pattern = (maps[:, 0] * 255).round().to(torch.uint8).cpu()  # (L, H, T, T)
        earlier = entries_before(path, learner.step)
        earlier.append(
            {
                "step": learner.step,
                "shape": list(pattern.shape),
                "weights": base64.b64encode(pattern.numpy().tobytes()).decode("ascii"),
            }
        )
        figure = {"text": text, "tokens": tokens, "steps": earlier}
        write_atomically(path, json.dumps(figure, ensure_ascii=False))

    return hook


def entries_before(path: Path, step: int) -> list[dict[str, Any]]:
    """What a figure has of steps before `step`; the rest belongs to a part relived."""
    if not path.is_file():
        return []
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
    return [entry for entry in steps if entry["step"] < step]


def agree(stop: StopRequest) -> Hook:
    """Let a request to stop that reached one rank reach them all, at one step."""

    def hook(learner: Learner, metrics: Metrics) -> None:
        stop.requested = anyone(stop.requested)

    return hook


def look(due_at: Callable[[int], bool]) -> Hook:
    """On all ranks, before any of them looks at `learner.model`: make it whole."""

    def hook(learner: Learner, metrics: Metrics) -> None:
        if due_at(learner.step):
            learner.ranks.gather()

    return hook


def look_away(learner: Learner, metrics: Metrics) -> None:
    """After all who look at `learner.model`: it may be in parts again."""
    learner.ranks.release()


def anywhere() -> bool:
    """A stage that may be saved after any step."""
    return True


_STOPPED = "stopped at step {}, saved; --resume goes on from here"


def leave(stop: StopRequest, may_save: Callable[[], bool] = anywhere) -> Hook:
    """Stop when asked to; saving is the first rank's work."""

    def hook(learner: Learner, metrics: Metrics) -> None:
        if stop.requested and may_save():
            raise Interrupted(_STOPPED.format(learner.step))

    return hook


def save(
    run: Run,
    state: Callable[[], dict[str, Any]],
    progress: Progress,
    stop: StopRequest,
    *,
    every: int,
    last: int,
    keep: int,
    may_save: Callable[[], bool] = anywhere,
) -> Hook:
    """Snapshots, now and then and when the run is asked to stop; then it stops.

    Where it may not be saved (amid a rollout), both wait until it may. For all ranks
    if each has a part of the weights, else for the first.
    """
    owed = False

    def hook(learner: Learner, metrics: Metrics) -> None:
        nonlocal owed
        owed = owed or stop.requested or due(learner.step, every, last)
        if not owed or not may_save():
            return
        owed = False
        if not rank():  # the logs must not outlive rows that they count on
            for log in (run.metrics, run.samples):
                fsync_file(log)
        if learner.ranks.split:
            save_together(run.snapshots, learner, state)
            prune_together(run.snapshots, keep, progress.best_step)
        else:
            save_snapshot(run.snapshots, learner, state())
            prune(run.snapshots, keep, progress.best_step)
        if stop.requested:
            raise Interrupted(_STOPPED.format(learner.step))

    return hook
