"""Row 2: the power goes at any call that changes the disk. What is found afterwards?

A run of the real `pretrain` is recorded: each call below its folder, with the bytes. A
model of a disk that keeps only what was flushed (disk_model.py) then replays every
beginning of the record, and what may be left of it is written down and opened. Promised
is: the newest snapshot is whole and no older than the last one whose saving had
returned; with it are the recipe, the tokenizer and the rows of the logs that resuming
needs; and `model/` is old or new, never torn.

Besides, the order of the calls is checked on its own: as recorded here and, where
`strace` is installed, as the kernel has seen it in another process.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from folio.config import UserError
from folio.text.tokenizer import Tokenizer
from folio.training import hooks
from folio.training import snapshot as snapshots
from folio.training.log import read_rows
from folio.training.snapshot import newest_snapshot
from reliability.calls import Call, watched
from reliability.disk_model import Disk
from reliability.row import Row, Tally
from reliability.subject import replaced, silent, small_recipe, train_small

STEPS = 4
SAVED = "saved"  # not a call: a save has returned
TRACED = "openat,mkdir,rename,renameat,renameat2,fsync,fdatasync,write,pwrite64"


@dataclass(frozen=True)
class Moment:
    """A call, the file's bytes after it, and the step that was safe before it."""

    call: Call
    content: bytes
    saved: int


def record_run(home: Path) -> list[Moment]:
    """Every call of one whole run, in order."""
    disk = home / "disk"
    disk.mkdir()
    calls: list[tuple[Call, int]] = []
    contents: list[bytes] = []
    saved = 0
    save = hooks.save_snapshot

    def note(call: Call) -> None:
        _complete(disk, calls, contents)
        calls.append((call, saved))

    def told(folder: Path, learner: Any, extra: dict) -> Path:
        nonlocal saved
        path = save(folder, learner, extra)
        saved = learner.step
        return path

    with watched(disk, note), replaced(hooks, "save_snapshot", told):
        train_small(run_recipe(home), disk / "run")
    _complete(disk, calls, contents)
    return [Moment(c, b, s) for (c, s), b in zip(calls, contents, strict=True)]


def _complete(disk: Path, calls: list, contents: list[bytes]) -> None:
    """The content that the last call has left, now that it has been made."""
    if len(calls) > len(contents):
        call = calls[-1][0]
        wrote = call.kind == "write"
        contents.append((disk / call.path).read_bytes() if wrote else b"")


def run_recipe(home: Path) -> Any:
    """Four steps, a snapshot after each, one kept: each save removes the one before."""
    train = {"steps": STEPS, "eval_every": 2, "keep": 1}
    return small_recipe(home, train=train, sample={"every": 2})


# ---- what is left --------------------------------------------------------------------


def work(home: Path, seed: int, variants: int, every: int, traced: bool) -> Tally:
    """Each `every`-th beginning of a record, left in `variants` ways and the worst."""
    tally, chance = Tally(), random.Random(seed)
    moments = record_run(home)
    for problem in order_violations([moment.call for moment in moments]):
        tally.note(f"order, seed {seed}", problem)
    tally.note(f"order, seed {seed}", None, "orders checked here")
    if traced and (calls := traced_run(home)) is not None:
        problems = order_violations(calls)
        renamed = [Path(c.target).name for c in calls if c.kind == "rename"]
        saves = sum(name.startswith("step-") for name in renamed)
        tally.counts["saves seen by strace"] += saves
        found = problems[0] if problems else None if saves >= STEPS else "no save seen"
        tally.note("order, strace", found)
    disk = Disk()
    for number, moment in enumerate(moments):
        if number % every == seed % every:
            for variant in range(variants + 1):
                left = home / "left"
                disk.crash(left, chance if variant else None)
                problem, kind = judge(left / "run", moment.saved, home / "disk/run")
                where = f"seed {seed}, call {number} {moment.call}, variant {variant}"
                tally.note(where, problem, kind)
                shutil.rmtree(left)
        disk.apply(moment.call, moment.content)
    return tally


def judge(run: Path, saved: int, whole: Path) -> tuple[str | None, str]:
    """(What is wrong with what is left of the run `whole`, which step was found)."""
    try:
        found = newest_snapshot(run / "snapshots", silent)
        step = found.state["learner"]["step"] if found else 0
        if step < saved:
            return f"step {saved} was saved, step {step} is found", "lost"
        if step and not (run / "recipe.toml").is_file():
            return "a snapshot without its recipe", "lost"
        if step:
            Tokenizer.load(run / "model")
        for name in ("metrics.jsonl", "samples.jsonl") if step else ():
            logs = [read_rows(folder / name) for folder in (run, whole)]
            one, other = ([r for r in log if r["step"] <= step] for log in logs)
            if one != other:
                return f"{name} has lost rows that step {step} counts on", "lost"
        if (run / "model/model.safetensors").exists():
            load_file(run / "model/model.safetensors")
    except (UserError, SafetensorError) as error:
        return str(error), "lost"
    if not saved and not step:
        return None, "before the first save"
    return None, "the last saved" if step == saved else "the one being saved"


# ---- the order alone -----------------------------------------------------------------


def order_violations(calls: list[Call]) -> list[str]:
    """Renames of what was not flushed before, or removals before the parent was.

    >>> start = [Call("create", "a/.tmp-1/x"), Call("write", "a/.tmp-1/x")]
    >>> order_violations([*start, Call("rename", "a/.tmp-1", "a/step-1")])[-1]
    'a/.tmp-1/x was written and not flushed before the rename to a/step-1'
    """
    wrong, dirty, unsealed = [], set(), set()
    for call in calls:
        parent = str(Path(call.path).parent)
        if call.kind in ("create", "write"):
            dirty |= {call.path} | ({parent} if call.kind == "create" else set())
        elif call.kind == "fsync":
            dirty.discard(call.path)
            unsealed.discard(call.path)
        elif call.kind == "rename":
            removes = ".tmp-removed-" in call.target
            if removes and parent in unsealed:
                wrong.append(f"{call.path} removed before {parent} was flushed")
            if not removes:
                inside = (call.path, call.path + "/")
                wrong += [
                    f"{path} was written and not flushed before the rename to "
                    f"{call.target}"
                    for path in sorted(dirty)
                    if path == inside[0] or path.startswith(inside[1])
                ]
                unsealed.add(parent)
    return wrong


_HANDLE = re.compile(r"(\w+)\(\d+<([^>]*)>")
_NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"')
KINDS = {"fdatasync": "fsync", "pwrite64": "write"}


def traced_run(home: Path) -> list[Call] | None:
    """The calls of a run in another process, as the kernel saw them; None: no strace
    is installed, or it may not trace."""
    if shutil.which("strace") is None:
        return None
    log, disk = home / "strace.log", home / "traced"
    disk.mkdir()
    code = (
        "import sys, torch; from pathlib import Path; torch.set_num_threads(1);"
        "from reliability.power import run_recipe; "
        "from reliability.subject import train_small; "
        "train_small(run_recipe(Path(sys.argv[1])), Path(sys.argv[2]) / 'run')"
    )
    strace = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={TRACED}", "-o", str(log)]
    command = [*strace, sys.executable, "-c", code, str(home), str(disk)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if done.returncode:
        return None if "PTRACE" in done.stderr else [Call("failed", done.stderr[-200:])]
    lines = log.read_text(errors="replace").splitlines()
    calls = (_parse(line, os.fspath(disk)) for line in lines)
    return [call for call in calls if call is not None]


def _parse(line: str, root: str) -> Call | None:
    """One line of strace as a call below `root`, if it is one that succeeded."""
    if re.search(r"= -1 E|<unfinished|resumed>", line) or root not in line:
        return None
    line = re.sub(r"^\d+ +", "", line)
    if handle := _HANDLE.match(line):
        kind, path = handle[1], handle[2]
        kind = KINDS.get(kind, kind)
        inside = kind in ("write", "fsync") and path.startswith(root)
        return Call(kind, os.path.relpath(path, root)) if inside else None
    names = [name for name in _NAMES.findall(line) if name.startswith(root)]
    paths = [os.path.relpath(name, root) for name in names]
    if line.startswith("rename") and len(paths) == 2:
        return Call("rename", *paths)
    if line.startswith("mkdir") and paths:
        return Call("mkdir", paths[0])
    if line.startswith("openat") and "O_CREAT" in line and paths:
        return Call("create", paths[0])
    return None


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """A snapshot's files and folder are left to the system."""
    with (
        replaced(
            snapshots, "_write_flushed", lambda path, data: path.write_bytes(data)
        ),
        replaced(snapshots, "fsync_folder", lambda folder: None),
    ):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Each call of the record, left in 41 ways (quick: each seventh, in 4)."""
    if quick:
        return {"0": {"seed": 0, "variants": 3, "every": 7, "traced": False}}
    return {
        str(seed): {"seed": seed, "variants": 40, "every": 4, "traced": seed == 0}
        for seed in range(4)
    }


ROW = Row(
    2,
    "power",
    "file, then folder, then rename, then parent reach the disk, in this order; after "
    "a power cut the old step is found, or the new",
    parts,
    work,
    "flushes nothing of a snapshot to the disk",
    broken,
)
