"""Row 6: random lives of a folder of snapshots. Is ever one removed too many?

Snapshots are saved, fail to be saved, rot, are the best so far, can't be removed, are
removed by half, are deleted by hand; processes crash and begin again from what they
find. A list beside says which snapshots must be whole. Promised is: what resuming finds
is always the newest of them; nothing is removed for the sake of a snapshot that doesn't
verify; the best is kept; and when nothing went wrong, exactly the newest so many and
the best are left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.files import remove_temporary
from folio.training import snapshot as snapshots
from folio.training.snapshot import (
    newest_snapshot,
    prune,
    save_snapshot,
    snapshot_paths,
)
from reliability.calls import Call, watched
from reliability.disk import failing
from reliability.row import Row, Tally, seeds
from reliability.subject import instant_disk, replaced, silent, small_learner

MOVES = {  # and how often each is made
    "save": 8,
    "best": 2,
    "failing save": 2,
    "save that rots": 2,  # before anything older is removed
    "rot of the newest": 2,
    "rot of any": 1,
    "not to be removed": 1,
    "removed by half": 1,
    "deleted by hand": 1,
    "crash and resume": 2,
}


class Life:
    """A folder of snapshots, and what must be true of it."""

    def __init__(self, folder: Path, learner: Any, chance: random.Random):
        self.folder, self.learner, self.chance = folder, learner, chance
        self.keep = chance.randrange(4)
        self.step, self.best = 0, None
        self.whole: set[int] = set()

    def present(self) -> set[int]:
        return {int(p.name.removeprefix("step-")) for p in snapshot_paths(self.folder)}

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def move(self, name: str) -> str | None:
        """Do it; what is wrong afterwards, or None."""
        before = self.present()
        match name:
            case "best":
                self.best = self.step
            case "rot of the newest" | "rot of any" if before:
                newest = name == "rot of the newest"
                self.rot(max(before) if newest else self.chance.choice(sorted(before)))
            case "deleted by hand" if before:
                step = self.chance.choice(sorted(before))
                shutil.rmtree(self.path(step))
                self.whole.discard(step)
            case "crash and resume":
                return self.resume()
            case "save" | "failing save" | "save that rots":
                return self.save(name, before) or self.found()
            case "not to be removed" | "removed by half":
                return self.save(name, before) or self.found()
        return self.found()

    def rot(self, step: int) -> None:
        path = self.chance.choice(sorted(self.path(step).iterdir()))
        data = bytearray(path.read_bytes())
        at = self.chance.randrange(len(data))
        data[at] = (data[at] + 1) % 256  # a flip could be undone by the next one
        path.write_bytes(data)
        self.whole.discard(step)

    def resume(self) -> str | None:
        """A process died, its staging folder stays; the next goes on from what it
        finds."""
        (self.folder / f".tmp-{self.step + 1}-1").mkdir(exist_ok=True)
        remove_temporary(self.folder)
        if list(self.folder.glob(".tmp-*")):
            return "half-written things stay"
        self.step = max(self.whole, default=self.step)
        return self.found()

    def save(self, name: str, before: set[int]) -> str | None:
        self.step += 1
        self.learner.step = self.step
        calls = self.chance.randrange(14)
        trouble = {
            "failing save": failing(calls, errno.ENOSPC, lasting=False),
            "not to be removed": _refuse("rename", ".tmp-removed"),
            "removed by half": _refuse("unlink", "optim"),
        }.get(name, lambda call: None)
        try:
            with watched(self.folder, trouble):
                save_snapshot(self.folder, self.learner, {})
                self.whole.add(self.step)
                if name == "save that rots":
                    self.rot(self.step)
                prune(self.folder, self.keep, self.best, silent)
        except UserError:  # it may be there all the same: its parent was not flushed
            with contextlib.suppress(snapshots.DamagedSnapshotError):
                snapshots.read_snapshot(self.path(self.step))
                self.whole.add(self.step)
        return self.kept(name, before)

    def kept(self, name: str, before: set[int]) -> str | None:
        """Is exactly the right set left?"""
        after, all_of_them = self.present(), before | {self.step}
        wanted = set(sorted(all_of_them)[-max(1, self.keep) :])
        wanted |= {self.best} & all_of_them
        verified = max(all_of_them) in self.whole
        if not verified and not before <= after:
            return f"{before - after} removed for the sake of a damaged one"
        if not wanted & self.whole <= after:
            return f"{(wanted & self.whole) - after} removed, of {wanted} to be kept"
        if name == "save" and after != (wanted if verified else all_of_them):
            return f"{after} are left, {wanted} were to be kept"
        self.whole &= after
        return None

    def found(self) -> str | None:
        """Does resuming find the newest that is whole?"""
        newest = max(self.whole, default=None)
        try:
            found = newest_snapshot(self.folder, silent)
        except UserError:
            return f"step {newest} is whole, none is found" if self.whole else None
        step = found and found.state["learner"]["step"]
        return None if step == newest else f"step {newest} is whole, {step} is found"


def _refuse(kind: str, part: str) -> Callable[[Call], None]:
    def before(call: Call) -> None:
        if call.kind == kind and part in call.path + call.target:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), call.path)

    return before


def work(home: Path, seed: int, trials: int) -> Tally:
    """`trials` lives of up to 16 moves."""
    tally, learner = Tally(), small_learner()
    with instant_disk():
        for trial in range(trials):
            chance = random.Random(f"{seed}-{trial}")
            folder = home / "snapshots"
            folder.mkdir()
            life, problem, moves = Life(folder, learner, chance), None, []
            for _ in range(chance.randrange(2, 17)):
                moves += chance.choices(list(MOVES), list(MOVES.values()))
                problem = problem or life.move(moves[-1])
            where = f"seed {seed}, trial {trial}, keep {life.keep}, {moves}"
            tally.note(where, problem, *moves)
            shutil.rmtree(folder)
    return tally


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """The newest is taken for good without being read."""

    def hasty(folder: Path, keep: int, best: int | None, say: Any) -> None:
        with replaced(snapshots, "_read_checked", lambda path: None):
            prune_really(folder, keep, best, say)

    prune_really = prune
    with replaced(sys.modules[__name__], "prune", hasty):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Ten thousand lives; quick: 100."""
    return seeds(100, 100) if quick else seeds(10_000, 500)


ROW = Row(
    6,
    "retention",
    "nothing is removed before a newer snapshot has been read back; the best is kept",
    parts,
    work,
    "removes old snapshots without reading the newest",
    broken,
)
