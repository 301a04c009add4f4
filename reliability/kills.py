"""Row 1: `kill -9` at any instant. What is lost?

A child trains with the real `pretrain`, saving after every step, and tells by shared
memory what it is doing; at an instant drawn beforehand it is killed, and the next child
resumes. Loss is: the newest whole snapshot is older than the last one that was known to
be saved; a child that can't go on; or a run that, at its end, differs in one bit of
weights, optimizer, generators, position or logs from one that was never killed.

Four of ten kills are aimed at a save, uniformly over twice the time that one takes,
four at the removal of old snapshots (over 1.25 times), two at any time of the child's
life.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import signal
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from folio.stages.recipe import PretrainRecipe
from folio.training import hooks
from folio.training import snapshot as snapshots
from reliability.row import Row, Tally, seeds
from reliability.subject import (
    differences,
    replaced,
    small_recipe,
    train_small,
    what_is_left,
)

STEPS = 16
SIZES = {  # of the model: about 0.05, 1 and 20 MB a snapshot
    "small": {},
    "medium": {"d_model": 64, "n_layers": 2},
    "large": {"d_model": 256, "n_layers": 2},
}
AIMS = {"saves": 2.0, "removals": 1.25}  # until when, in times of what it takes
PHASES = ("training", "writing", "renamed", "removing old ones")
AFTER_RENAME = ("renamed", "removing old ones")


class Failure(Exception):
    """A child that could not go on: that is a loss, too."""


class Watch:
    """What a child is doing, in memory that outlives it: four whole numbers."""

    NAMES = ("phase", "saves", "removals", "saved_step")

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 * len(self.NAMES))

    def __getitem__(self, name: str) -> int:
        return struct.unpack_from("q", self.memory, 8 * self.NAMES.index(name))[0]

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self.memory, 8 * self.NAMES.index(name), value)


@contextlib.contextmanager
def telling(watch: Watch) -> Iterator[None]:
    """Write into `watch` what saving and pruning are at."""
    save, prune, rename = hooks.save_snapshot, hooks.prune, os.rename

    def told_save(folder: Path, learner: Any, extra: dict) -> Path:
        watch["phase"], watch["saves"] = 1, watch["saves"] + 1
        path = save(folder, learner, extra)
        watch["saved_step"], watch["phase"] = learner.step, 0
        return path

    def told_prune(*arguments: Any) -> None:
        watch["phase"], watch["removals"] = 3, watch["removals"] + 1
        prune(*arguments)
        watch["phase"] = 0

    def told_rename(old: Any, new: Any, **more: Any) -> None:
        rename(old, new, **more)
        if watch["phase"] == 1 and Path(new).name.startswith("step-"):
            watch["phase"] = 2

    with (
        replaced(hooks, "save_snapshot", told_save),
        replaced(hooks, "prune", told_prune),
        replaced(os, "rename", told_rename),
    ):
        yield


# ---- one life ------------------------------------------------------------------------


def live(recipe: PretrainRecipe, folder: Path, watch: Watch) -> None:
    """Train in a child of ours until the end, or until we are killed."""
    status = 1
    try:
        sys.stdout = sys.stderr = open(folder.with_suffix(".log"), "a")  # noqa: SIM115
        with telling(watch):
            train_small(recipe, folder, resume=True)
        status = 0
    except BaseException as error:
        folder.with_suffix(".log").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(status)


def life(
    recipe: PretrainRecipe,
    folder: Path,
    watch: Watch,
    aim: Callable[[Callable[[], bool]], None],
) -> bool:
    """Fork a child; kill it when `aim` returns. True if it got through before."""
    watch["phase"] = watch["saves"] = watch["removals"] = 0
    child = os.fork()
    if child == 0:
        live(recipe, folder, watch)
    aim(
        lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    )
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise Failure(folder.with_suffix(".log").read_text() or "a child failed")
    return not os.WIFSIGNALED(status)


def aimed(
    chance: random.Random, watch: Watch, seconds: dict[str, float]
) -> Callable[[Callable[[], bool]], None]:
    """A function that returns when it is time to kill."""
    what = chance.choices(("saves", "removals", "life"), (4, 4, 2))[0]
    if what == "life":
        moment = chance.uniform(0.0, seconds["life"])
        return lambda alive: _wait(lambda: False, alive, moment)
    which = chance.randrange(1, 5)
    moment = chance.uniform(0.0, AIMS[what] * seconds[what])

    def wait(alive: Callable[[], bool]) -> None:
        _wait(lambda: watch[what] >= which, alive, 60.0)
        time.sleep(moment)

    return wait


def _wait(reached: Callable[[], bool], alive: Callable[[], bool], most: float) -> None:
    end = time.perf_counter() + most
    while time.perf_counter() < end and not reached() and alive():
        time.sleep(5e-5)


def newest_step(folder: Path) -> int:
    """The newest whole snapshot's step, 0 if there is none yet."""
    for path in reversed(snapshots.snapshot_paths(folder)):
        with contextlib.suppress(snapshots.DamagedSnapshotError):
            return snapshots.read_snapshot(path).state["learner"]["step"]
    return 0


def landed(folder: Path, watch: Watch) -> str:
    """Where a kill hit."""
    phase = PHASES[watch["phase"]]
    if phase == "writing" and any(folder.glob(f".tmp-*/{snapshots.MANIFEST}")):
        return "sealed, not renamed"
    return phase


# ---- many lives ----------------------------------------------------------------------


@contextlib.contextmanager
def timed(seconds: dict[str, list[float]]) -> Iterator[None]:
    """How long each save and each removal takes, on this disk, meanwhile."""

    def stopwatch(name: str, function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            return result

        return call

    with (
        replaced(hooks, "save_snapshot", stopwatch("saves", hooks.save_snapshot)),
        replaced(hooks, "prune", stopwatch("removals", hooks.prune)),
    ):
        yield


def work(home: Path, seed: int, trials: int, size: str) -> Tally:
    """`trials` kills of runs of one size."""
    chance, watch, tally = random.Random(seed), Watch(), Tally()
    recipe = small_recipe(home, model=SIZES[size], train={"steps": STEPS})
    start, took = time.perf_counter(), {}
    # In this process, which so loads all that torch loads late, once for all children.
    with timed(took):
        train_small(recipe, home / "whole")
    seconds = {name: statistics.median(values) for name, values in took.items()}
    seconds["life"] = time.perf_counter() - start
    expected = what_is_left(home / "whole", STEPS)
    run, number = home / "run-0", 0
    watch["saved_step"] = 0
    while tally.trials < trials:
        number += 1
        try:
            done = life(recipe, run, watch, aimed(chance, watch, seconds))
            problem = _lost(run, done, watch["saved_step"], expected)
        except Failure as error:
            done, problem = True, str(error)
        where = f"size {size}, seed {seed}, life {number}"
        if problem or not done:
            tally.note(where, problem, landed(run / "snapshots", watch))
        if done or problem:
            tally.counts["runs finished, equal"] += done and not problem
            shutil.rmtree(run)
            run, watch["saved_step"] = home / f"run-{number}", 0
    return tally


def _lost(run: Path, done: bool, saved: int, expected: dict[str, Any]) -> str | None:
    step = newest_step(run / "snapshots")
    if step < saved:
        return f"step {saved} was saved, step {step} is found"
    wrong = differences(what_is_left(run, STEPS), expected) if done else []
    return f"a finished run differs in {wrong[:3]}" if wrong else None


# ---- a build that must fail ----------------------------------------------------------


def save_in_place(folder: Path, learner: Any, extra: dict) -> Path:
    """How not to: the only snapshot is renamed and then written over."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{learner.step:08d}"
    for old in snapshots.snapshot_paths(folder):
        os.rename(old, final)
    final.mkdir(exist_ok=True)
    beside = folder.parent / "beside"  # the bytes, made by the real one
    whole = _real_save(beside, learner, extra)
    for path in sorted(whole.iterdir()):
        with open(final / path.name, "wb") as file:
            file.write(path.read_bytes())
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(beside)
    return final


_real_save = hooks.save_snapshot


@contextlib.contextmanager
def broken() -> Iterator[None]:
    with replaced(hooks, "save_snapshot", save_in_place):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """A thousand kills: 400 small, 300 medium, 300 large; quick: 20."""
    if quick:
        return seeds(20, 20, size="small")
    counts = {"small": 400, "medium": 300, "large": 300}
    return {
        f"{size}-{seed}": arguments
        for size, count in counts.items()
        for seed, arguments in seeds(count, 50, size=size).items()
    }


def settled(tally: Tally) -> str | None:
    """A quarter of the kills must come after the rename, or not both sides were hit."""
    after = sum(tally.counts[phase] for phase in AFTER_RENAME)
    before = tally.counts["writing"] + tally.counts["sealed, not renamed"]
    if not before:
        return "no kill hit a save before its rename"
    later = after + tally.counts["training"]
    if later < 0.25 * tally.trials:
        return f"only {later} of {tally.trials} kills came after the rename"
    return None


ROW = Row(
    1,
    "kills",
    "a step is visible if and only if it is whole; resuming never takes a bad one",
    parts,
    work,
    "overwrites its only snapshot where it lies",
    broken,
    settled,
)
