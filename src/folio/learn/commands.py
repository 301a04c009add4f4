"""What `folio learn` does: each verb as a function that prints what a learner reads."""

from __future__ import annotations

import ast
import shutil
import textwrap
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from folio.config import UserError
from folio.learn.exercise import Exercise
from folio.learn.exercises import find, in_order
from folio.learn.folder import Folder
from folio.learn.runner import SECONDS, check_file
from folio.learn.source import live_source

PRINTED = 20  # lines: what is said of the answer shouldn't leave the screen
DONE, BEGUN, OPEN, FAILED = "✓", "…", "·", "✗"


def list_exercises(
    folder: Path, week: int | None = None, chapter: int | None = None
) -> None:
    """The exercises in the book's order, week by week, and how far one has come."""
    mine, shown = Folder(folder), None
    exercises = in_order(week, chapter)
    passed = {name for name, known in mine.progress().items() if known.get("passed")}
    for exercise in exercises:
        if exercise.week != shown:
            shown = exercise.week
            print(f"Week {shown}")
        begun = BEGUN if mine.answer(exercise).exists() else OPEN
        mark = DONE if exercise.name in passed else begun
        where = f"chapter {exercise.chapter}"
        print(f"  {mark} {exercise.name:24} {where:11} {exercise.title}")
    count = sum(exercise.name in passed for exercise in exercises)
    print(f"{count} of {len(exercises)} passed")


def start(
    names: Sequence[str],
    folder: Path,
    week: int | None = None,
    chapter: int | None = None,
) -> None:
    """Write stubs: of those named, of a week or chapter, or of the next one."""
    mine = Folder(folder)
    chosen = list(map(find, names))
    if not chosen:
        chosen = [e for e in in_order(week, chapter) if not mine.answer(e).exists()]
        if week is None and chapter is None:
            chosen = chosen[:1]
    if not chosen:
        print("all of them are started already")
    for exercise in chosen:
        file, new = mine.start(exercise)
        if new:
            print(f"{file}: {exercise.title}; then `folio learn check {exercise.name}`")
        else:
            print(f"{file} is there already, and stays as it is")


def check(
    names: Sequence[str],
    folder: Path,
    week: int | None = None,
    chapter: int | None = None,
    seconds: float = SECONDS,
) -> bool:
    """Check the named ones, or all that are started; True if all of them pass."""
    mine = Folder(folder)
    chosen = list(map(find, names))
    if not chosen:
        chosen = [e for e in in_order(week, chapter) if mine.answer(e).exists()]
    if not chosen:
        raise UserError(f"nothing to check in {folder}; begin with `folio learn start`")
    mine.progress()  # if it is damaged, say so before any work
    passed = [check_one(exercise, mine, seconds) for exercise in chosen]
    return all(passed)


def check_one(exercise: Exercise, mine: Folder, seconds: float) -> bool:
    """Check one answer, tell what came of it, and remember it."""
    mine.source(exercise)  # a UserError if it can't be read
    file = mine.answer(exercise)
    verdict, printed = check_file(exercise, file, seconds)
    mine.note(exercise, passed=verdict.passed)
    print(f"{DONE if verdict.passed else FAILED} {exercise.name}: {exercise.title}")
    for held in verdict.held:
        print(f"    {DONE} {held}")
    if verdict.failed:
        print(f"    {FAILED} {verdict.failed}")
    if not verdict.passed:
        line = f", line {verdict.line}" if verdict.line else ""
        print(f"  {file}{line}: {verdict.message}")
    if printed.strip() and not verdict.passed:
        lines = printed.strip().splitlines()
        end = "it printed:" if len(lines) <= PRINTED else "it printed, at the end:"
        print(textwrap.indent("\n".join([end, *lines[-PRINTED:]]), "  "))
    return verdict.passed


def hint(name: str, folder: Path) -> None:
    """The next hint; after the last, the last again."""
    exercise, mine = find(name), Folder(folder)
    count = mine.progress().get(name, {}).get("hints", 0)
    number = min(count + 1, len(exercise.hints))
    print(f"hint {number} of {len(exercise.hints)}: {exercise.hints[number - 1]}")
    mine.note(exercise, hints=number)


def watch(name: str, folder: Path, seconds: float = SECONDS) -> None:
    """Check whenever the file is saved, until it passes or is interrupted."""
    exercise, mine = find(name), Folder(folder)
    mine.start(exercise)
    for _ in changes(mine.answer(exercise)):
        if check_one(exercise, mine, seconds):
            return
        print(f"watching {mine.answer(exercise)}; stop with Ctrl-C", flush=True)


def changes(file: Path, pause: float = 0.3) -> Iterator[None]:
    """Now, and each time that the content of `file` has changed. It may vanish a while:
    editors write another file and rename it."""
    seen: bytes | None = None
    while True:
        try:
            content = file.read_bytes()
        except OSError:
            content = seen or b""
        if content != seen:
            seen = content
            yield
        time.sleep(pause)


def diff(name: str, folder: Path, anyway: bool = False) -> None:
    """The learner's code beside the package's, once it has passed."""
    exercise, mine = find(name), Folder(folder)
    written = mine.source(exercise)
    if not (anyway or mine.has_passed(exercise)):
        raise UserError(
            f"{name} hasn't passed yet: the package's source would give it away; "
            f"`folio learn hint {name}` helps, --anyway shows it"
        )
    width = (shutil.get_terminal_size((160, 24)).columns - 3) // 2
    left, right = own_source(exercise, written), live_source(exercise)
    print(f"{mine.answer(exercise)!s:{width}} | {exercise.symbol}")
    for one, other in zip_longest(left.splitlines(), right.splitlines(), fillvalue=""):
        print(f"{one[:width]:{width}} | {other[:width]}".rstrip())


def own_source(exercise: Exercise, written: str) -> str:
    """The symbol alone, of a learner's file; all of it if that can't be read."""
    try:
        statements = ast.parse(written).body
    except (SyntaxError, ValueError):
        return written
    for statement in statements:
        if getattr(statement, "name", None) == exercise.path[-1]:
            return ast.get_source_segment(written, statement) or written
    return written


def reset(name: str, folder: Path) -> None:
    """Begin anew; what was written is kept beside."""
    exercise, mine = find(name), Folder(folder)
    kept = mine.reset(exercise)
    print(f"{mine.answer(exercise)} is a stub again")
    if kept is not None:
        print(f"what you had is in {kept}")
