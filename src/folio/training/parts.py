"""What a snapshot's files are, and whether they are what the manifest says.

One process writes `model.safetensors` and `optim.safetensors`. Ranks that have but a
part of each weight write as many files as they are, `model-00001-of-00004.safetensors`:
whole tensors, dealt out, so that any number of processes can read them again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from folio.config import UserError
from folio.runtime import rank, told_by_all, world_size

MANIFEST = "manifest.json"
FILES = ("model.safetensors", "optim.safetensors", "rng.safetensors", "state.json")
Entry = dict[str, str | int]


class DamagedSnapshotError(UserError):
    """A snapshot that doesn't match its manifest."""


def part_names(stem: str, count: int) -> list[str]:
    """The files that `count` ranks write.

    >>> part_names("model", 2)
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    return [f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def file_names(path: Path) -> tuple[str, ...]:
    """The files that the snapshot in `path` must have, besides its manifest."""
    found = sorted(path.glob("model-*-of-*.safetensors"))
    if not found or (path / FILES[0]).exists():
        return FILES
    count = int(found[0].stem.split("-of-")[1])
    models, optims = part_names("model", count), part_names("optim", count)
    return (*models, *optims, *FILES[2:])


def entry(path: Path) -> Entry:
    """Checksum and size of one file, read a little at a time."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file, and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def manifest_of(entries: Mapping[str, Entry]) -> bytes:
    """The manifest itself, the same bytes for the same files."""
    return json.dumps({"version": 1, "files": dict(entries)}, indent=2).encode()


def verify(path: Path, names: Sequence[str], *, together: bool) -> None:
    """Raise a DamagedSnapshotError unless every file is what the manifest says.

    `together`: each rank reads some of the files, and all come to the same verdict;
    they must all ask at once.
    """
    share = slice(rank(), None, world_size()) if together else slice(None)
    found, error = {}, None
    try:
        for name in names[share]:
            found[name] = entry(path / name)
        manifest = (path / MANIFEST).read_bytes()
    except OSError as problem:
        error = f"{Path(problem.filename or path).name}: {problem.strerror}"
    if together:
        everyone = told_by_all((found, error))
        found = {name: x for part, _ in everyone for name, x in part.items()}
        error = next((problem for _, problem in everyone if problem), None)
    if error is None and manifest != manifest_of({name: found[name] for name in names}):
        wrong = (n for n in names if str(found[n]["sha256"]).encode() not in manifest)
        error = f"{next(wrong, MANIFEST)} does not match its checksum"
    if error is not None:
        raise DamagedSnapshotError(f"snapshot {path} is damaged: {error}")


class TensorsInFiles(Mapping[str, Tensor]):
    """Tensors by name, each read from its file when it is asked for."""

    def __init__(self, paths: Sequence[Path]):
        self.files = {}
        for path in paths:
            file = safe_open(path, framework="pt")
            self.files |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> Tensor:
        return self.files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)
