"""Row 20: two trainers on one folder, and what a killed one leaves behind.

Two to four children start on one folder at the same moment. Promised is: never are two
of them inside at once; those who are refused say so in one line; one run comes to its
end, as if alone; and when the holder is killed, the next trainer goes on at once,
whatever the lock file says.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from folio import files
from folio.config import UserError
from folio.files import LOCK, exclusive
from reliability.row import Row, Tally
from reliability.subject import (
    differences,
    replaced,
    small_recipe,
    train_small,
    what_is_left,
)

STEPS = 4
INSIDE, REFUSED, TWO_INSIDE, OTHER = 0, 2, 3, 4  # exit statuses of children


def race(count: int, action: Callable[[], int], log: Path) -> list[int]:
    """Statuses of `count` children that begin `action` at the same moment."""
    ready, go = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            status = OTHER
            try:
                os.close(go)
                os.read(ready, 1)  # until the parent closes the other end
                status = action()
            except BaseException as error:
                log.write_text(f"{type(error).__name__}: {error}")
            finally:
                os._exit(status)
        children.append(child)
    os.close(ready)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def hold(folder: Path, seconds: float) -> int:
    """Hold the folder; a witness file tells if somebody else does, too."""
    try:
        with exclusive(folder):
            try:
                witness = os.open(folder / "witness", os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                return TWO_INSIDE
            time.sleep(seconds)
            os.close(witness)
            os.unlink(folder / "witness")
            return INSIDE
    except UserError as error:
        return REFUSED if " is in use by " in str(error) else OTHER


def train(recipe: Any, folder: Path) -> int:
    """The real `pretrain`; refused is also who comes when the winner has finished."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        train_small(recipe, folder)
        return INSIDE
    except UserError as error:
        told = (" is in use by ", "already holds a run")
        return REFUSED if any(words in str(error) for words in told) else OTHER


# ---- trials --------------------------------------------------------------------------


def work(home: Path, seed: int, races: int, trainings: int, kills: int) -> Tally:
    """Races for the lock alone, races of trainers, and kills of the holder."""
    chance, tally = random.Random(seed), Tally()
    recipe = small_recipe(home, train={"steps": STEPS, "keep": 2})
    train_small(recipe, home / "alone")
    expected = what_is_left(home / "alone", STEPS)
    for trial in range(races):
        folder, log = home / f"race-{trial}", home / "log"
        count, seconds = chance.randrange(2, 5), chance.choice([0.0, 0.001, 0.01])
        found = race(count, lambda f=folder, s=seconds: hold(f, s), log)
        problem = None
        if TWO_INSIDE in found or not set(found) <= {INSIDE, REFUSED}:
            problem = f"statuses {found} {log.read_text() if log.exists() else ''}"
        elif INSIDE not in found:
            problem = "nobody got in"
        refused = found.count(REFUSED)
        tally.note(f"seed {seed}, race {trial}", problem, f"{refused} refused")
    for trial in range(trainings):
        folder, log = home / f"training-{trial}", home / "log"
        found = race(2, lambda f=folder: train(recipe, f), log)
        problem = None if sorted(found) == [INSIDE, REFUSED] else f"statuses {found}"
        if problem is None:
            wrong = differences(what_is_left(folder, STEPS), expected)
            problem = f"the winner's run differs in {wrong[:3]}" if wrong else None
        tally.note(f"seed {seed}, training {trial}", problem, "two trainers")
        shutil.rmtree(folder, ignore_errors=True)  # two at once may leave none
    for trial in range(kills):
        problem = after_a_kill(home / f"kill-{trial}", recipe, chance, expected)
        tally.note(f"seed {seed}, kill {trial}", problem, "holder killed")
    return tally


def after_a_kill(
    folder: Path, recipe: Any, chance: random.Random, expected: dict[str, Any]
) -> str | None:
    """Kill a trainer that holds the folder; the next one must get in, and finish."""
    child = os.fork()
    if child == 0:
        os._exit(train(recipe, folder))
    end = time.perf_counter() + 30
    while not (folder / "recipe.toml").exists() and time.perf_counter() < end:
        time.sleep(1e-3)
    time.sleep(chance.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if chance.random() < 0.5:  # what a lock of process ids would stumble over
        (folder / LOCK).write_text(f"process {os.getpid()} on another boot")
    try:
        train_small(recipe, folder, resume=True)
    except UserError as error:
        return f"the next trainer is refused: {error}"
    wrong = differences(what_is_left(folder, STEPS), expected)
    return f"what it left differs in {wrong[:3]}" if wrong else None


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """The lock is always free."""
    with replaced(files, "_try_lock", lambda file: True):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """200 races for the lock, 40 of trainers, 40 kills; quick: 8, 2 and 2."""
    if quick:
        return {"0": {"seed": 0, "races": 8, "trainings": 2, "kills": 2}}
    return {
        str(seed): {"seed": seed, "races": 50, "trainings": 10, "kills": 10}
        for seed in range(4)
    }


ROW = Row(
    20,
    "locks",
    "one trainer a folder: the second is refused, and a killed one does not hold it",
    parts,
    work,
    "takes every lock for free",
    broken,
)
