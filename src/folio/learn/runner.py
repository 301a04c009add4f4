"""Check an answer in a process of its own, which may hang, crash or end.

Whatever it does, a verdict comes back, and no process is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from folio.config import UserError
from folio.learn.exercise import Exercise
from folio.learn.verdict import Verdict

SECONDS = 20.0  # for a learner's own code
STARTING = 60.0  # at most, to load torch on a slow machine
SHOWN = 4000  # characters of what the code printed


def check_file(
    exercise: Exercise, file: Path, seconds: float = SECONDS
) -> tuple[Verdict, str]:
    """The verdict on a file, and the end of what it printed.

    UserError if `seconds`, which the learner's own code may take, can't be.
    """
    if not 0 < seconds <= 3600:
        raise UserError(f"seconds = {seconds:g}: must lie above 0, up to 3600")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "verdict.json"
        command = [sys.executable, "-m", "folio.learn.judge", exercise.name]
        command += [str(file.resolve()), str(place), str(seconds)]
        status, printed, errors = run_alone(command, seconds + STARTING)
        if place.is_file():
            return Verdict(**json.loads(place.read_text("utf-8"))), printed[-SHOWN:]
    message, line = _ended(status, errors, seconds, file)
    return Verdict(message=message, line=line), printed[-SHOWN:]


def run_alone(command: list[str], seconds: float) -> tuple[int | None, str, str]:
    """Exit status (None: out of time), output and errors; its whole group is gone.

    The output goes to files: a child that outlives its parent would hold a pipe open.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # small numbers, small models
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            kill_group(process)
        return status, _text(output), _text(errors)


def kill_group(process: subprocess.Popen) -> None:
    """End a process and all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
    else:
        process.kill()
    process.wait()


def _text(file) -> str:
    """The last megabyte: code that prints without end fills a disk, not memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1_000_000))
    return file.read().decode("utf-8", "replace")


def _ended(
    status: int | None, errors: str, seconds: float, file: Path
) -> tuple[str, int | None]:
    """Why there is no verdict, and the line where it happened, if Python said it."""
    places = re.findall(r'File "(.+?)", line (\d+)', errors)
    lines = [int(line) for name, line in places if name == str(file.resolve())]
    line = lines[0] if lines else None  # faulthandler: the innermost comes first
    if status is None or "Timeout (" in errors:
        return f"still running after {seconds:g} seconds: an endless loop?", line
    if status < 0:
        return f"your code ended Python by signal {-status}", line
    if status == 0:
        return "your code ended Python; leave `exit` out", line
    last = errors.strip().splitlines()[-1:] or ["no message"]
    return f"Python ended (status {status}) before all was checked: {last[0]}", line
