"""Judge what a learner wrote: one kind and exact message, and the line it is about.

    python -m folio.learn.judge NAME FILE VERDICT SECONDS

does so in a process of its own, into which the learner's symbol is put before anything
else of the package is imported, and writes the verdict as JSON.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import faulthandler
import inspect
import json
import linecache
import os
import sys
import traceback
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

from folio.learn.exercise import Broken, Exercise, spoken
from folio.learn.exercises import find
from folio.learn.overlay import install, placed
from folio.learn.verdict import Fault, Verdict

MOST_PRINTED = 16_000_000  # bytes


def judge(exercise: Exercise, source: str, file: str = "answer.py") -> Verdict:
    """The verdict on an answer, in this process; the package is left as it was.

    Trusts it to end. The learner's own commands use a process of their own for that.
    """
    import_module(exercise.module)
    try:
        mine = load(exercise, source, file)
        check_signature(exercise, mine, file)
    except Fault as fault:
        return Verdict(message=fault.message, line=fault.line)
    with placed(exercise, mine):
        return run_checks(exercise, mine, file)


def live_object(exercise: Exercise) -> Any:
    """The package's own function or class, of a module that is loaded."""
    live: Any = sys.modules[exercise.module]
    for name in exercise.path:
        live = getattr(live, name)
    return live


def load(exercise: Exercise, source: str, file: str) -> Any:
    """The learner's object. Raises `Fault` for a file that can't be read or run."""
    name = exercise.path[-1]
    scope: dict[str, Any] = {"__name__": f"my_{exercise.name}", "__file__": file}
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    code = _compiled(source, file)
    try:
        exec(code, scope)
    except ImportError as error:
        raise Fault(f"an import fails: {error}", line_in(error, file)) from None
    except (Exception, SystemExit) as error:
        raise Fault(_told(error), line_in(error, file)) from None
    if name not in scope:
        raise Fault(f"the file defines no {name!r}: keep the name that the stub has")
    if not callable(scope[name]):
        raise Fault(f"{name!r} is no function or class, but {scope[name]!r:.40}")
    return scope[name]


def _compiled(source: str, file: str) -> CodeType:
    try:
        return compile(source, file, "exec")
    except SyntaxError as error:
        what = (error.text or "").strip()
        shown = f"not valid Python: {error.msg}" + (f", near `{what}`" if what else "")
        raise Fault(shown, error.lineno) from None
    except ValueError as error:  # a null byte
        raise Fault(f"not valid Python: {error}") from None


def check_signature(exercise: Exercise, mine: Any, file: str) -> None:
    """Raise `Fault` unless `mine` can be called as the live one, methods included."""
    live, name = live_object(exercise), exercise.path[-1]
    line = line_of(name, file)
    if inspect.isclass(live) != inspect.isclass(mine):
        wanted = "a class" if inspect.isclass(live) else "a function"
        raise Fault(f"{name!r} must be {wanted}, as in the stub", line)
    pairs = [(name, live, mine)]
    if inspect.isclass(live):
        public = [m for m in vars(live) if m.startswith("__") or not m.startswith("_")]
        public = [m for m in public if _is_written(vars(live)[m])]
        lacking = [m for m in public if not _is_written(getattr(mine, m, None))]
        if lacking:
            raise Fault(f"the class {name} lacks {lacking[0]!r}", line)
        pairs = [(f"{name}.{m}", vars(live)[m], getattr(mine, m)) for m in public]
    for called, wanted, written in pairs:
        if isinstance(wanted, property) or isinstance(written, property):
            continue
        names = [list(inspect.signature(f).parameters) for f in (wanted, written)]
        if names[0] != names[1]:
            shown = [f"({', '.join(parameters)})" for parameters in names]
            raise Fault(
                f"wrong signature: {called} takes {shown[0]}, yours takes {shown[1]}",
                getattr(getattr(written, "__code__", None), "co_firstlineno", line),
            )


def _is_written(value: Any) -> bool:
    return inspect.isfunction(value) or isinstance(value, property)


def run_checks(exercise: Exercise, mine: Any, file: str) -> Verdict:
    """The checks in order, up to the first that fails."""
    held: list[str] = []
    for check in exercise.checks:
        try:
            check(mine)
        except Broken as broken:
            line = line_of(exercise.path[-1], file)
            return Verdict(held, spoken(check), str(broken), line)
        except (Exception, SystemExit) as error:
            message, line = _blamed(error, file)
            line = line or line_of(exercise.path[-1], file)
            return Verdict(held, spoken(check), message, line)
        held.append(spoken(check))
    return Verdict(held)


def _blamed(error: BaseException, file: str) -> tuple[str, int | None]:
    """What an exception means for whoever wrote `file`, and where."""
    line = line_in(error, file)
    if isinstance(error, NotImplementedError) and line:
        return "this is still to be written", line
    if line:
        return _told(error), line
    return f"what it gives can't be used: {_told(error)}", None


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "your code ended Python; leave `exit` out"
    if isinstance(error, EOFError):
        return "nobody answers `input()` here; leave it out"
    if isinstance(error, RecursionError):
        return "RecursionError: it calls itself without end"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return f"it prints or writes more than {MOST_PRINTED // 10**6} MB"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def line_in(error: BaseException, file: str) -> int | None:
    """The deepest line of `file` that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return lines[-1] if lines else None


def line_of(name: str, file: str) -> int | None:
    """Where a file defines what should have that name."""
    for statement in ast.parse("".join(linecache.getlines(file))).body:
        if getattr(statement, "name", None) == name:
            return statement.lineno
    return None


def main(name: str, file: str, verdict: str, seconds: str) -> None:
    """Judge `file` with its symbol in the package; write the verdict.

    After so many seconds of the learner's own code, Python says in which line it is,
    and ends.
    """
    limit_output()
    exercise = find(name)  # with what its checks need, before the clock starts
    source = Path(file).read_text(encoding="utf-8-sig")
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    written: list[Any] = []

    def make() -> Any:
        mine = load(exercise, source, file)
        check_signature(exercise, mine, file)
        written.append(mine)
        return mine

    install([(exercise, make)])
    try:
        import_module(exercise.module)
        found = run_checks(exercise, written[0], file)
    except Fault as fault:
        found = Verdict(message=fault.message, line=fault.line)
    faulthandler.cancel_dump_traceback_later()
    Path(verdict).write_text(json.dumps(asdict(found)), encoding="utf-8")


def limit_output() -> None:
    """Code that prints without end must not fill the disk."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not everywhere

        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_PRINTED, MOST_PRINTED))


def leave() -> NoReturn:
    """End now, whatever threads the learner's code has left running."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
