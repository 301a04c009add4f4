"""Kill trainings at random instants, aimed around saves: what is lost?

A child trains a minuscule model with the real `pretrain`, saving after every step, and
is killed with SIGKILL; the next child resumes. After each kill the newest whole
snapshot must be at least as new as the last one seen; each run that gets to its end
must equal, bit for bit, one that was never interrupted. Loss: anything else.

`--saver in-place` overwrites one snapshot where it lies, as many trainers do: it must
fail, or this harness proves nothing. The last line is `kill LOST 0`.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load

from folio.config import build
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.training import hooks
from folio.training import snapshot as snapshots
from record import median, parse_arguments, record

STAGING = re.compile(r"\.tmp-\d+-\d+")
STEPS = 16
TIMING = ("seconds", "tokens_per_second")


def recipe(text: Path) -> PretrainRecipe:
    """Everything that draws random numbers is on: dropout, accumulation, samples."""
    values = {
        "data": {"path": str(text)},
        "tokenizer": {"kind": "char"},
        "model": {
            "d_model": 16,
            "n_layers": 1,
            "n_heads": 2,
            "max_seq_len": 16,
            "dropout": 0.2,
        },
        "optim": {"warmup": 4},
        "train": {
            "steps": STEPS,
            "batch": 2,
            "accumulate": 4,
            "save_every": 1,
            "eval_every": 5,
            "keep": 1,
            "device": "cpu",
        },
        "sample": {"every": 6, "max_new_tokens": 4},
        "log": {"every": 3},
    }
    return build(PretrainRecipe, values)


def save_in_place(folder: Path, learner, extra: dict) -> Path:
    """How not to: the only snapshot is renamed and then written over."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{learner.step:08d}"
    for old in snapshots.snapshot_paths(folder):
        os.rename(old, final)
    final.mkdir(exist_ok=True)
    state = {"learner": snapshots.learner_state(learner)} | extra
    files = {
        "model.safetensors": snapshots.save(snapshots.model_tensors(learner.model)),
        "optim.safetensors": snapshots.save(
            snapshots.optimizer_tensors(learner.optimizer)
        ),
        "rng.safetensors": snapshots.save(snapshots.random_tensors()),
        "state.json": json.dumps(state, indent=2).encode(),
    }
    for name, data in files.items():
        snapshots._write_flushed(final / name, data)
    snapshots._write_flushed(final / snapshots.MANIFEST, snapshots._manifest(files))
    return final


# ---- one life ------------------------------------------------------------------------


def live(text: Path, folder: Path) -> None:
    """Train in a child of ours until the end, or until we are killed."""
    status = 1
    try:
        sys.stdout = sys.stderr = open(folder.with_suffix(".log"), "a")  # noqa: SIM115
        pretrain(recipe(text), folder, resume=True, say=lambda line: None)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def life(text: Path, folder: Path, moment: float | None) -> bool:
    """Fork a child; kill it `moment` after a save has begun. True if it got through.

    A negative moment counts from the child's start instead; None never kills.
    """
    child = os.fork()
    if child == 0:
        live(text, folder)
    if moment is not None:
        if moment < 0:
            time.sleep(-moment)
        else:
            _wait_for_a_save(folder / "snapshots", child)
            time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        log = folder.with_suffix(".log").read_text().splitlines()
        raise Failure(log[-1] if log else "a child failed")
    return not os.WIFSIGNALED(status)


class Failure(Exception):
    """A child that could not go on: that is a loss, too."""


def _wait_for_a_save(folder: Path, child: int) -> None:
    """Until one of the next four saves begins, or the child has ended.

    A save begins with a staging folder; one in place, with the snapshot itself.
    """
    before = set(os.listdir(folder)) if folder.is_dir() else set()
    skip = random.Random(time.perf_counter_ns()).randrange(4)
    stages = False
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = set(os.listdir(folder)) if folder.is_dir() else set()
        staging = {name for name in now - before if STAGING.fullmatch(name)}
        stages |= bool(staging)
        if staging or (now - before and not stages):
            if skip == 0:
                return
            skip -= 1
        before = now
        time.sleep(0.0001)


def landed(folder: Path) -> str:
    """Where a kill hit, told by what lies in the folder of snapshots."""
    names = os.listdir(folder) if folder.is_dir() else []
    for name in names:
        if STAGING.fullmatch(name):
            whole = (folder / name / snapshots.MANIFEST).exists()
            return "staged, manifest there" if whole else "while writing"
    if any(name.startswith(".tmp-removed") for name in names):
        return "while removing an old one"
    return "after the rename, or between saves"


def newest_step(folder: Path) -> int:
    """The newest whole snapshot's step, 0 if there is none yet."""
    for path in reversed(snapshots.snapshot_paths(folder)):
        try:
            return snapshots.read_snapshot(path).state["learner"]["step"]
        except snapshots.DamagedSnapshotError:
            continue
    return 0


# ---- comparing with a life without interruption --------------------------------------


def what_is_left(folder: Path) -> dict:
    """What must not depend on interruptions: weights, optimizer, RNG, logs."""
    last = folder / f"snapshots/step-{STEPS:08d}"
    left: dict = {}
    for name in snapshots.FILES[:3]:
        left |= {f"{name}:{k}": t for k, t in load((last / name).read_bytes()).items()}
    for name in ("metrics.jsonl", "samples.jsonl"):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        left[name] = [{k: v for k, v in r.items() if k not in TIMING} for r in rows]
    left["model"] = (folder / "model/model.safetensors").read_bytes()
    names = os.listdir(folder / "snapshots")
    left["debris"] = [name for name in names if name.startswith(".tmp-")]
    return left


def differences(one: dict, other: dict) -> list[str]:
    """The names of the parts that are not equal."""
    wrong = sorted(one.keys() ^ other.keys())
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        wrong += [] if same else [name]
    return wrong


# ---- many lives ----------------------------------------------------------------------


@contextlib.contextmanager
def seconds_of_saves() -> Iterator[list[float]]:
    """How long each save takes, on this disk, meanwhile."""
    real, seconds = hooks.save_snapshot, []

    def timed(*arguments) -> Path:
        start = time.perf_counter()
        path = real(*arguments)
        seconds.append(time.perf_counter() - start)
        return path

    hooks.save_snapshot = timed
    try:
        yield seconds
    finally:
        hooks.save_snapshot = real


def trials(count: int, seed: int, home: Path) -> tuple[list[str], Counter, int]:
    """`count` kills. Returns what was lost, where the kills landed, runs finished."""
    chance = random.Random(seed)
    text = home / "tale.txt"
    text.write_text("".join(f"{i} hens sat on {i % 7} eggs.\n" for i in range(99)))
    # In this process, which so loads all that torch loads late, once for all children.
    with seconds_of_saves() as seconds:
        pretrain(recipe(text), home / "uninterrupted", say=lambda line: None)
    aim = 2 * median(seconds)  # half of the aimed kills hit the save, half what follows
    expected = what_is_left(home / "uninterrupted")
    lost: list[str] = []
    landings: Counter = Counter()
    run, finished, last, kills = home / "run-0", 0, 0, 0
    while kills < count:
        aimed = chance.random() < 0.85
        moment = chance.uniform(0, aim) if aimed else -chance.uniform(0.02, 0.4)
        try:
            done = life(text, run, moment)
            step = newest_step(run / "snapshots")
            problem = f"step {step} after {last}" if step < last else None
            if done:
                wrong = differences(what_is_left(run), expected)
                problem = f"a finished run differs in {wrong[:3]}" if wrong else None
        except Failure as error:
            done, step, problem = True, 0, str(error)
        if problem:
            lost.append(problem)
        kills += not done
        landings[landed(run / "snapshots")] += not done
        last = step
        if done or problem:
            finished += done and not problem
            shutil.rmtree(run)
            run, last = home / f"run-{len(lost) + finished}", 0
    return lost, landings, finished


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--trials", {"type": int, "help": "kills (default 1,000; quick: 40)"}),
        ("--seed", {"type": int, "default": 0}),
        ("--saver", {"choices": ["folio", "in-place"], "default": "folio"}),
    )
    torch.set_num_threads(1)
    if arguments.saver == "in-place":
        hooks.save_snapshot = save_in_place
    count = arguments.trials or (40 if arguments.quick else 1000)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        lost, landings, finished = trials(count, arguments.seed, Path(home))
    for problem in lost[:10]:
        print(f"lost: {problem}")
    for where, times in landings.most_common():
        print(f"{times:5} kills {where}")
    print(f"{finished} runs finished, equal to one that was never interrupted")
    row = {
        "saver": arguments.saver,
        "kills": count,
        "lost": len(lost),
        "landings": dict(landings),
        "finished": finished,
        "seconds": round(time.perf_counter() - start, 1),
    }
    if arguments.saver == "folio":
        record("kill", len(lost), 0, [row], higher_is_better=False)
    else:  # the harness itself is on trial: it must notice at least one loss
        record("kill_in_place", len(lost), 1, [row])


if __name__ == "__main__":
    main()
