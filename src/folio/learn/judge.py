"""Judge what a learner wrote: one kind and exact message, and the line it is about.

    python -m folio.learn.judge NAME FILE VERDICT SECONDS

does so in a process of its own, into which the learner's symbol is put before anything
else of the package is imported, and writes the verdict as JSON.
"""

from __future__ import annotations

import faulthandler
import inspect
import json
import linecache
import sys
import traceback
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from folio.learn.exercise import Broken, Exercise, spoken
from folio.learn.exercises import find
from folio.learn.overlay import install, placed


@dataclass(frozen=True)
class Verdict:
    """What came of the checks: those that hold, and the first that doesn't."""

    held: list[str] = field(default_factory=list)
    failed: str = ""  # the property that doesn't hold, if it came to one
    message: str = ""
    line: int | None = None  # of the learner's file

    @property
    def passed(self) -> bool:
        return not self.message


class Fault(Exception):
    """Why a learner's file can't be judged, and the line that is to blame."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.message, self.line = message, line


def judge(exercise: Exercise, source: str, file: str = "answer.py") -> Verdict:
    """The verdict on an answer, in this process; the package is left as it was.

    Trusts it to end. The learner's own commands use a process of their own for that.
    """
    import_module(exercise.module)
    try:
        mine = load(exercise, source, file)
        check_signature(live_object(exercise), mine, exercise.path[-1])
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
    try:
        exec(_compiled(source, file), scope)
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


def check_signature(live: Any, mine: Any, name: str) -> None:
    """Raise `Fault` unless `mine` can be called as `live` is, methods included."""
    if inspect.isclass(live) != inspect.isclass(mine):
        wanted = "a class" if inspect.isclass(live) else "a function"
        raise Fault(f"{name!r} must be {wanted}, as in the stub", _line_of(mine))
    if not inspect.isclass(live):
        return _check_parameters(live, mine, name)
    for method, value in vars(live).items():
        if not inspect.isfunction(value):
            continue
        if method.startswith("_") and not method.startswith("__"):
            continue
        written = inspect.getattr_static(mine, method, None)
        if not inspect.isfunction(written):
            raise Fault(f"the class {name} lacks the method {method!r}", _line_of(mine))
        _check_parameters(value, written, f"{name}.{method}")
    return None


def _check_parameters(live: Any, mine: Any, name: str) -> None:
    wanted, got = (list(inspect.signature(f).parameters) for f in (live, mine))
    if got[: len(wanted)] != wanted or len(got) > len(wanted):
        raise Fault(
            f"wrong signature: {name} takes ({', '.join(wanted)}), yours takes "
            f"({', '.join(got)})",
            _line_of(mine),
        )


def run_checks(exercise: Exercise, mine: Any, file: str) -> Verdict:
    """The checks in order, up to the first that fails."""
    held: list[str] = []
    for check in exercise.checks:
        try:
            check(mine)
        except Broken as broken:
            return Verdict(held, spoken(check), str(broken), _line_of(mine))
        except (Exception, SystemExit) as error:
            return Verdict(held, spoken(check), *_blamed(error, file, mine))
        held.append(spoken(check))
    return Verdict(held)


def _blamed(error: BaseException, file: str, mine: Any) -> tuple[str, int | None]:
    """What an exception means for whoever wrote `file`, and where."""
    line = line_in(error, file)
    if isinstance(error, NotImplementedError) and line:
        return "this is still to be written", line
    if line:
        return _told(error), line
    return f"what it returned can't be used: {_told(error)}", _line_of(mine)


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "your code ended Python; leave `exit` out"
    if isinstance(error, RecursionError):
        return "RecursionError: it calls itself without end"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def line_in(error: BaseException, file: str) -> int | None:
    """The deepest line of `file` that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return lines[-1] if lines else None


def _line_of(mine: Any) -> int | None:
    try:
        return inspect.getsourcelines(mine)[1]
    except (OSError, TypeError):
        code = getattr(mine, "__code__", None)
        return code.co_firstlineno if code else None


def main(name: str, file: str, verdict: str, seconds: str) -> None:
    """Judge `file` with its symbol in the package; write the verdict.

    After so many seconds of the learner's own code, Python says in which line it is,
    and ends.
    """
    torch.set_num_threads(1)
    exercise = find(name)
    source = Path(file).read_text(encoding="utf-8")
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    written: list[Any] = []

    def make() -> Any:
        mine = load(exercise, source, file)
        check_signature(live_object(exercise), mine, exercise.path[-1])
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


if __name__ == "__main__":
    main(*sys.argv[1:])
