"""Files and folders of models as they are written: whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from folio.config import UserError
from folio.files import TEMPORARY, fsync_file, fsync_folder, write_atomically
from folio.hub.folder import INDEX, SINGLE


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when all of it is written, or else nothing."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(
            tempfile.mkdtemp(prefix=f"{TEMPORARY}{target.name}-", dir=target.parent)
        )
    except OSError as error:
        raise UserError(f"could not write {target}: {error.strerror}") from None
    try:
        yield staging
        for folder, _, names in os.walk(staging, topdown=False):
            for name in names:
                fsync_file(Path(folder) / name)
            fsync_folder(Path(folder))
        os.chmod(staging, 0o755)
        os.replace(staging, target)
        fsync_folder(target.parent)
    except OSError as error:
        raise UserError(f"could not write {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """The same for one file, which may be too large to be held in memory."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f"{TEMPORARY}{target.name}-", dir=target.parent
        )
        os.close(handle)
    except OSError as error:
        raise UserError(f"could not write {target}: {error.strerror}") from None
    staging = Path(name)
    try:
        yield staging
        fsync_file(staging)
        os.chmod(staging, 0o644)
        os.replace(staging, target)
        fsync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"could not write {target}: {reason}") from None
    finally:
        with suppress(OSError):
            staging.unlink()


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A safetensors file; `format` is what `transformers` asks for."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except Exception as error:  # safetensors wraps the system's errors in its own
        raise UserError(f"could not write {path}: {error}") from None


def save_shards(tensors: Mapping[str, Tensor], folder: Path, largest: int) -> None:
    """One file, or several of at most `largest` bytes and an index to find tensors."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > largest:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_tensors(shards[0], folder / SINGLE)
        return
    places = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_tensors(shard, folder / name)
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(folder / INDEX, index)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """An object, indented, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
