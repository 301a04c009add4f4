"""Every call that changes the disk below a folder: seen before it is made.

Linux only: what a handle stands for is read from /proc.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = frozenset("wax+")


@dataclass(frozen=True)
class Call:
    """What is about to happen; paths are relative to the folder that is watched."""

    kind: str  # mkdir, create, write, fsync, rename, unlink or rmdir
    path: str
    target: str = ""  # of a rename


Before = Callable[[Call], None]  # may raise OSError: then the call is not made


class _File:
    """A file that tells of each write, and keeps nothing back in a buffer."""

    def __init__(self, file: Any, tell: Callable[[], None]):
        self._file, self._tell = file, tell

    def write(self, data: Any) -> int:
        self._tell()
        count = self._file.write(data)
        self._file.flush()
        return count

    def truncate(self, *size: int) -> int:
        self._tell()
        return self._file.truncate(*size)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Watch:
    def __init__(self, root: Path, before: Before):
        self.root, self.before = os.path.realpath(root), before

    def place(self, path: Any, folder: int | None = None) -> str | None:
        """Where a path or handle lies below the root; None: not there."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif folder is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(os.fsdecode(path))
        if path == self.root:
            return "."
        inside = path.startswith(self.root + os.sep)
        return path[len(self.root) + 1 :] if inside else None

    def tell(self, kind: str, path: str | None, target: str | None = "") -> None:
        if path is not None:
            self.before(Call(kind, path, target or ""))

    def one_path(self, kind: str, real: Callable) -> Callable:
        def call(path: Any, *rest: Any, dir_fd: int | None = None, **more: Any) -> Any:
            self.tell(kind, self.place(path, dir_fd))
            more |= {} if dir_fd is None else {"dir_fd": dir_fd}
            return real(path, *rest, **more)

        return call

    def renaming(self, real: Callable) -> Callable:
        def call(old: Any, new: Any, **more: Any) -> None:
            self.tell("rename", self.place(old), self.place(new))
            real(old, new, **more)

        return call

    def opening(self, real: Callable) -> Callable:
        def call(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            place = self.place(path, more.get("dir_fd"))
            if place is not None and flags & os.O_CREAT:
                self.tell("create", place)
            return real(path, flags, *rest, **more)

        return call

    def file(self, real: Callable) -> Callable:
        def call(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            place = self.place(path) if WRITING & set(mode) else None
            if place is None:
                return real(path, mode, *rest, **more)
            if not isinstance(path, int) and not os.path.exists(path):
                self.tell("create", place)
            elif "w" in mode and not isinstance(path, int):
                self.tell("write", place)  # it is emptied
            file = real(path, mode, *rest, **more)
            return _File(file, lambda: self.tell("write", place))

        return call


@contextlib.contextmanager
def watched(root: Path, before: Before) -> Iterator[None]:
    """Tell `before` of every call of this process that changes the disk below `root`.

    What compiled code writes by itself is not seen.
    """
    watch = _Watch(root, before)
    wrappers = {
        "mkdir": watch.one_path("mkdir", os.mkdir),
        "unlink": watch.one_path("unlink", os.unlink),
        "remove": watch.one_path("unlink", os.remove),
        "rmdir": watch.one_path("rmdir", os.rmdir),
        "fsync": watch.one_path("fsync", os.fsync),
        "write": watch.one_path("write", os.write),
        "ftruncate": watch.one_path("write", os.ftruncate),
        "rename": watch.renaming(os.rename),
        "replace": watch.renaming(os.replace),
        "open": watch.opening(os.open),
    }
    real = {name: getattr(os, name) for name in wrappers}
    real_open = builtins.open
    try:
        for name, wrapper in wrappers.items():
            setattr(os, name, wrapper)
        builtins.open = io.open = watch.file(real_open)  # os.fdopen calls it, too
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        builtins.open = io.open = real_open
