"""A disk that keeps only what was flushed: what may be left after a power cut.

The rules are the strictest that POSIX allows, stricter than any common file system. A
file's bytes are safe after `fsync` of the file; its name, a rename or a removal after
`fsync` of the folder that has it. What is not safe may be there, or not, or half: bytes
cut short or zero, and of a folder's changes any subset. A rename within a folder is one
change: both of its names or none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from reliability.calls import Call


@dataclass
class File:
    """Bytes as programs see them, and as the disk surely has them."""

    seen: bytes = b""
    safe: bytes = b""

    def after_a_cut(self, chance: random.Random | None) -> bytes:
        """What may be left: without `chance` the least, or else anything allowed."""
        if self.seen == self.safe or chance is None:
            return self.safe
        kept = len(self.safe) if self.seen.startswith(self.safe) else 0  # appended to
        torn = self.seen[: chance.randrange(kept, len(self.seen) + 1)]
        zeros = self.seen[:kept] + bytes(len(self.seen) - kept)
        return chance.choice([self.safe, self.seen, torn, zeros])


Change = dict[str, "File | Folder | None"]  # None: the name is gone


@dataclass
class Folder:
    """Names as programs see them, as the disk has them, and what lies between."""

    seen: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        self.pending.append(change)
        _apply(self.seen, change)

    def flush(self) -> None:
        self.safe, self.pending = dict(self.seen), []

    def after_a_cut(self, chance: random.Random | None) -> dict[str, File | Folder]:
        names = dict(self.safe)
        for change in self.pending:
            if chance is not None and chance.random() < 0.5:
                _apply(names, change)
        return names


def _apply(names: dict[str, File | Folder], change: Change) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """A tree that follows the calls of a program; `crash` writes down what is left."""

    def __init__(self) -> None:
        self.root = Folder()

    def _find(self, path: str) -> File | Folder:
        node: File | Folder = self.root
        for name in Path(path).parts:
            node = node.seen[name]
        return node

    def _parent(self, path: str) -> Folder:
        return self._find(str(Path(path).parent))

    def apply(self, call: Call, content: bytes) -> None:
        """Follow one call; `content` is all of a file's bytes after a write."""
        name = Path(call.path).name
        match call.kind:
            case "mkdir" | "create" if name in self._parent(call.path).seen:
                pass  # the call was refused, or opened what is there
            case "mkdir":
                self._parent(call.path).change({name: Folder()})
            case "create":
                self._parent(call.path).change({name: File()})
            case "write":
                self._find(call.path).seen = content
            case "unlink" | "rmdir":
                self._parent(call.path).change({name: None})
            case "rename":
                self._rename(call)
            case "fsync":
                node = self._find(call.path)
                if isinstance(node, Folder):
                    node.flush()
                else:
                    node.safe = node.seen

    def _rename(self, call: Call) -> None:
        assert Path(call.path).parent == Path(call.target).parent, "two folders: two"
        node = self._find(call.path)
        change: Change = {Path(call.path).name: None, Path(call.target).name: node}
        self._parent(call.path).change(change)

    def crash(self, target: Path, chance: random.Random | None = None) -> None:
        """Write below `target` what may be left if the power goes now."""
        _write(self.root, target, chance)


def _write(folder: Folder, target: Path, chance: random.Random | None) -> None:
    target.mkdir()
    for name, node in folder.after_a_cut(chance).items():
        if isinstance(node, Folder):
            _write(node, target / name, chance)
        else:
            (target / name).write_bytes(node.after_a_cut(chance))
