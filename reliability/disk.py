"""Row 5: a disk that is full, read-only, forbidden or failing, at any call of a run.

A run that has saved two steps goes on and is hit by an error: at one call that changes
the disk, drawn beforehand, or at that one and all that follow. Or, where the system
lets us mount one, it lives on a real small file system that another program fills up,
at a phase and to a size drawn beforehand. Promised is: the command ends with status 2
and one line that names the file and the reason (or with 0, if what failed didn't
matter); the newest snapshot is whole and no older than before; nothing half-written
stays, once the disk lets itself be tidied; and when it has been mended, `--resume` ends
as a run that was never disturbed, bit for bit.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from folio import cli
from folio.config import UserError, to_toml
from folio.training import hooks
from folio.training import snapshot as snapshots
from reliability.calls import Call, watched
from reliability.kills import newest_step, save_in_place
from reliability.row import Row, Tally, seeds
from reliability.subject import (
    debris,
    differences,
    instant_disk,
    replaced,
    small_recipe,
    train_small,
    what_is_left,
)

STEPS, BEFORE = 5, 2
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
TIDY = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # with these, removing still works


class Subject:
    """A run of a few steps, whole and as it is after two of them."""

    def __init__(self, home: Path):
        train = {"steps": STEPS, "eval_every": 2, "keep": 2}
        self.recipe = small_recipe(home, train=train, sample={"every": 2})
        self.file = home / "recipe.toml"
        self.file.write_text(to_toml(self.recipe))
        train_small(self.recipe, home / "whole")
        self.expected = what_is_left(home / "whole", STEPS)
        self.begun = home / "begun"
        with stopping_at(BEFORE):
            status, said = self.command(self.begun)
        assert status == 130, said

    def command(self, folder: Path) -> tuple[int, str]:
        """`folio pretrain --resume`: its exit status and what it said of errors."""
        said, status = io.StringIO(), 0
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
        ):
            try:
                cli.main(["pretrain", str(self.file), "--run", str(folder), "--resume"])
            except SystemExit as leaving:
                status = int(leaving.code or 0)
        return status, said.getvalue().strip()


@contextlib.contextmanager
def stopping_at(step: int) -> Iterator[None]:
    """Ask the run to stop after so many steps, as SIGTERM does."""
    agree = hooks.agree

    def asked(stop: Any) -> Callable:
        hook = agree(stop)

        def ask(learner: Any, metrics: Any) -> None:
            if learner.step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            hook(learner, metrics)

        return ask

    with replaced(hooks, "agree", asked):
        yield


# ---- errors by injection -------------------------------------------------------------


def work(home: Path, seed: int, trials: int, mounted: bool = False) -> Tally:
    """Trials with one error each, or on a small file system of our own."""
    if mounted:
        return mounted_trials(home, seed, trials)
    with instant_disk():
        return injected_trials(home, seed, trials)


def injected_trials(home: Path, seed: int, trials: int) -> Tally:
    """At a call drawn from all of them, an error drawn from five."""
    chance, tally, subject = random.Random(seed), Tally(), Subject(home)
    calls: list[Call] = []
    shutil.copytree(subject.begun, home / "counted")
    with watched(home / "counted", calls.append):
        subject.command(home / "counted")
    for trial in range(trials):
        code, lasting = chance.choice(CODES), chance.random() < 0.5
        at = chance.randrange(len(calls))
        run = home / f"run-{trial}"
        shutil.copytree(subject.begun, run)
        where = f"seed {seed}, trial {trial}, {errno.errorcode[code]} at call {at}"
        with watched(run, failing(at, code, lasting)):
            outcome = attempt(subject, run)
        problem, kind = outcome
        removal = calls[at].kind in ("unlink", "rmdir")  # which then has failed
        problem = problem or judge(
            run, BEFORE, lasting and code in TIDY and not removal
        )
        problem = problem or mended(subject, run)
        kinds = (errno.errorcode[code], kind, "lasting" if lasting else "once")
        tally.note(f"{where} {calls[at]} lasting {lasting}", problem, *kinds)
        shutil.rmtree(run)
    return tally


def failing(at: int, code: int, lasting: bool) -> Callable[[Call], None]:
    """Raise at the call of that number, and maybe at all that come after it."""
    number = -1

    def before(call: Call) -> None:
        nonlocal number
        number += 1
        removal = call.kind in ("unlink", "rmdir")
        if number == at or (lasting and number > at and not (removal and code in TIDY)):
            raise OSError(code, os.strerror(code), call.path)

    return before


def attempt(subject: Subject, run: Path) -> tuple[str | None, str]:
    """(What is wrong with how the command ended, how it ended)."""
    try:
        status, said = subject.command(run)
    except BaseException as error:
        return f"{type(error).__name__}: {error}", "a traceback"
    lines = [line for line in said.splitlines() if line.startswith("folio: ")]
    if status == 0:
        return None, "went on to the end"
    if status != 2 or len(lines) != 1:
        return f"status {status}: {said[-300:]!r}", "another end"
    if str(run) not in lines[0]:
        return f"no path is named: {lines[0]}", "another end"
    return None, "stopped with status 2"


def judge(run: Path, saved: int, tidy: bool) -> str | None:
    """Is everything there that was, and nothing half-written?"""
    step = newest_step(run / "snapshots")
    if step < saved:
        return f"step {saved} was saved, step {step} is found"
    for path in snapshots.snapshot_paths(run / "snapshots"):
        snapshots.read_snapshot(path)
    return f"half-written: {debris(run)}" if tidy and debris(run) else None


def mended(subject: Subject, run: Path) -> str | None:
    """With a good disk: does the run go on as if nothing had been?"""
    status, said = subject.command(run)
    if status:
        return f"could not go on: {said[-300:]!r}"
    wrong = differences(what_is_left(run, STEPS), subject.expected)
    return f"the mended run differs in {wrong[:3]}" if wrong else None


# ---- a real file system, full --------------------------------------------------------

PHASES = {  # a call of that kind on a file like that, of a run from its beginning
    "preparing data": ("create", r"shards/\.tmp-"),
    "first save": ("mkdir", r"snapshots/\.tmp-1-"),
    "amid a save": ("create", r"snapshots/\.tmp-3-\d+/optim"),
    "before the manifest": ("create", r"snapshots/\.tmp-3-\d+/manifest"),
    "keeping the best": ("create", r"model/\.tmp-model"),
}
SIZES = 20  # bytes left free: from none to half as much again as a snapshot takes
MIB = 1 << 20


def mounted_trials(home: Path, seed: int, trials: int) -> Tally:
    """The same on a file system of 16 MiB, in a process that may mount one."""
    code = (
        "import sys; from pathlib import Path; from reliability.disk import on_mount;"
        "on_mount(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
    )
    mount = f'mount -t tmpfs -o size={16 * MIB} tmpfs "$1" && exec "$0" -c "$2" "$@"'
    (home / "small").mkdir()
    arguments = [sys.executable, str(home / "small"), code, str(seed), str(trials)]
    shell = f'{mount.replace("$@", "$1")} "$3" "$4"'
    command = ["unshare", "-Urm", "sh", "-c", shell, *arguments]
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    except FileNotFoundError:
        return Tally(counts=Counter({"no file system could be mounted": 1}))
    if "unshare" in done.stderr or "mount:" in done.stderr:
        return Tally(counts=Counter({"no file system could be mounted": 1}))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return Tally(found["trials"], found["failures"], Counter(found["counts"]))


def on_mount(home: Path, seed: int, trials: int) -> None:
    """Trials below a mounted folder; the tally is printed as the last line."""
    import torch

    torch.set_num_threads(1)
    tally, subject = Tally(), Subject(home)
    snapshot = sum(
        path.stat().st_size for path in (subject.begun / "snapshots").glob("*1/*")
    )
    for trial in range(trials):
        phase = list(PHASES)[trial % len(PHASES)]
        free = int(1.5 * snapshot * (trial // len(PHASES)) / (SIZES - 1))
        run = home / f"run-{trial}"
        run.mkdir()
        with watched(run, filling(home / "filler", free, *PHASES[phase])):
            problem, kind = attempt(subject, run)
        if not (home / "filler").exists():
            problem = problem or "the phase never came"
        problem = problem or judge(run, saved_in(phase, run), tidy=True)
        (home / "filler").unlink(missing_ok=True)
        problem = problem or mended(subject, run)
        where = f"seed {seed}, trial {trial}, {phase}, {free} bytes free"
        tally.note(where, problem, phase, f"full disk: {kind}")
        shutil.rmtree(run)
    print(json.dumps(tally.as_json()))


def saved_in(phase: str, run: Path) -> int:
    """What was surely saved before the disk was full."""
    return 2 if phase in ("amid a save", "before the manifest") else 0


def filling(filler: Path, free: int, kind: str, pattern: str) -> Callable[[Call], None]:
    """Another program writes until `free` bytes are left, once, at the first call
    that is meant."""

    def before(call: Call) -> None:
        if filler.exists() or call.kind != kind or not re.match(pattern, call.path):
            return
        disk = os.statvfs(filler.parent)
        left = disk.f_bavail * disk.f_frsize - free
        filler.write_bytes(bytes(max(0, left)))

    return before


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """As for the kills, but with one line for its errors: the loss must be noticed."""

    def save(folder: Path, learner: Any, extra: dict) -> Path:
        try:
            return save_in_place(folder, learner, extra)
        except OSError as error:
            raise UserError(f"could not save {folder}: {error.strerror}") from None

    with replaced(hooks, "save_snapshot", save):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """A thousand errors, and 20 sizes at 5 phases; quick: 20 errors."""
    if quick:
        return seeds(20, 20)
    mounted = {"seed": 0, "trials": SIZES * len(PHASES), "mounted": True}
    return seeds(1000, 50) | {"mounted": mounted}


ROW = Row(
    5,
    "disk",
    "a save that fails harms no older snapshot and leaves nothing behind; the command "
    "ends with status 2 and one line; mended, the run goes on",
    parts,
    work,
    "overwrites its only snapshot where it lies",
    broken,
)
