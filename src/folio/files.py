"""Files that are written whole or not at all, and folders that one process holds."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from folio.config import UserError

LOCK, TEMPORARY = ".lock", ".tmp-"
PATIENCE = 0.2  # seconds for which a lock is asked for before it counts as taken

_held: list[IO[str]] = []  # the locks of this process


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    if os.name == "nt":  # Windows can't open folders; its renames are journaled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make `folder`, parents too; its name survives a power cut, as what is in it may.

    Without that, whole snapshots can lie in a folder that nobody finds again.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        fsync_folder(path.parent)


def fsync_file(path: Path) -> None:
    """Flush what has been written to `path`, by whomever, and its name to the disk."""
    if not path.is_file():
        return
    try:
        with open(path, "ab") as file:
            os.fsync(file.fileno())
        fsync_folder(path.parent)
    except OSError as error:
        raise UserError(f"could not write {path}: {error.strerror}") from None


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write beside, flush to disk, rename into place: readers see old or new, whole."""
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        _write_beside(path, data)
        fsync_folder(path.parent)
    except OSError as error:
        raise UserError(f"could not write {path}: {error.strerror or error}") from None
    return path


def _write_beside(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f"{TEMPORARY}{path.name}-"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def remove_temporary(folder: Path) -> None:
    """Remove what a killed process left half-written; only with the folder held."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; the system frees it however we die.

    If nothing is put into it meanwhile, it is left as it was: not there, for example.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    file, before = _open_lock(folder)
    with file:
        if not _lock_soon(file) or not _still_there(file, folder / LOCK):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"{folder} is in use by {holder}; wait for it or choose another --run"
            )
        _held.append(file)
        try:
            _sign(file, folder)
            yield
        finally:
            _held.remove(file)
            _remove_if_unused(folder, before, made)


def _open_lock(folder: Path) -> tuple[IO[str], list[str]]:
    """The open lock file of `folder`, which is made, and what was in it before.

    Whoever leaves an unused folder removes it, maybe between two of our calls: again.
    """
    for again in reversed(range(100)):
        try:
            make_folder(folder)
            before = os.listdir(folder)
            return open(folder / LOCK, "a+"), before
        except OSError as error:
            if again and isinstance(error, (FileNotFoundError, FileExistsError)):
                continue
            raise UserError(f"{folder}: can't be used: {error.strerror}") from None
    raise AssertionError


def _sign(file: IO[str], folder: Path) -> None:
    """Say who holds the lock; past the buffer, which closing would try to empty."""
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}".encode())
    except OSError as error:
        raise UserError(f"{folder}: can't be used: {error.strerror}") from None


@contextlib.contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Hold `folder`, after waiting for whoever has it; freed however we die."""
    with open(folder / LOCK, "a+") as file:
        while not _try_lock(file):
            time.sleep(0.05)
        _held.append(file)
        try:
            yield
        finally:
            _held.remove(file)


def _let_go_in_child() -> None:
    """A forked worker shares the lock, and could outlive us: it must not hold it."""
    for file in _held:
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _still_there(file, path: Path) -> bool:
    """Whether the file we locked is still the one that others would lock."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _remove_if_unused(folder: Path, before: list[str], made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        if set(os.listdir(folder)) - set(before) == {LOCK}:
            (folder / LOCK).unlink()
            for path in made:  # the innermost first; one that is in use stays
                path.rmdir()


def _lock_soon(file: IO[str]) -> bool:
    """Whether the lock is ours, after a moment's patience.

    A process that was killed while it started another leaves the lock with that one
    until it has become itself: some milliseconds.
    """
    end = time.monotonic() + PATIENCE
    while not (got := _try_lock(file)) and time.monotonic() < end:
        time.sleep(0.01)
    return got


def _try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
