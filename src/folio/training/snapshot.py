"""Snapshots: everything needed to go on, bit for bit, as if nothing had happened.

A snapshot is a folder `step-00000500/` that is either whole or absent:

    model.safetensors  optim.safetensors  rng.safetensors  state.json  manifest.json

It is written beside as `.tmp-500-<pid>`, each file is flushed to disk, the manifest
(sha256 and size of every other file) last; then the folder is renamed into place. What
dies on the way leaves a `.tmp-` folder, which the next start removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from folio.config import UserError
from folio.files import fsync_folder
from folio.model.store import load_tensors, model_tensors
from folio.training.learner import Learner

MANIFEST = "manifest.json"


class DamagedSnapshotError(UserError):
    """A snapshot that doesn't match its manifest."""


@dataclass(frozen=True)
class Snapshot:
    """What was read back: tensors by file, and the JSON state."""

    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rng: dict[str, Tensor]
    state: dict[str, Any]


# ---- optimizer state and random state as named tensors -------------------------------


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Each parameter's state as `parameter.key`, under the names of `decay_groups`."""
    tensors = {}
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            tensors[f"{name}.{key}"] = tensor.detach().to("cpu").contiguous()
    return tensors


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took out."""
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter_name, key = name.rsplit(".", 1)
        by_parameter.setdefault(parameter_name, {})[key] = tensor
    for name, parameter in _named(optimizer):
        if name not in by_parameter:
            raise UserError(f"the snapshot has no optimizer state for {name!r}")
        # step counters live with the weights: the fused kernel wants them there
        optimizer.state[parameter] = {
            key: tensor.to(parameter.device).clone()
            for key, tensor in by_parameter[name].items()
        }


def _named(
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)


def random_tensors() -> dict[str, Tensor]:
    """torch's generators: the CPU's and every CUDA device's."""
    states = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        states[f"cuda.{index}"] = torch.cuda.get_rng_state(index)
    return states


def load_random(tensors: dict[str, Tensor]) -> None:
    """Set the generators back; devices that are absent here are left alone."""
    torch.set_rng_state(tensors["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda.{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{index}"], index)


def learner_state(learner: Learner) -> dict[str, Any]:
    """The numbers of a learner that are not tensors."""
    return {
        "step": learner.step,
        "denominator": learner.denominator,
        "skipped_in_a_row": learner.skipped_in_a_row,
        "scaler": learner.scaler.state_dict(),
    }


def restore(snapshot: Snapshot, learner: Learner) -> None:
    """Make `learner` and the random generators what they were at the snapshot."""
    load_tensors(learner.model, snapshot.model)
    load_optimizer(learner.optimizer, snapshot.optimizer)
    load_random(snapshot.rng)
    state = snapshot.state["learner"]
    learner.step, learner.denominator = state["step"], state["denominator"]
    learner.skipped_in_a_row = state["skipped_in_a_row"]
    learner.scaler.load_state_dict(state["scaler"])


# ---- writing -------------------------------------------------------------------------


def save_snapshot(folder: Path, learner: Learner, extra: dict[str, Any]) -> Path:
    """Write the snapshot of this step into `folder`. Returns its path.

    `extra` (JSON) is kept beside the learner's state: the stream's position, the best
    loss so far. A disk that is full or fails is a one-line error; older snapshots and
    an older one of the same step stay as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{learner.step:08d}"
    if final.exists():  # resumed at this very step: what is there is complete
        return final
    state = {"learner": learner_state(learner)} | extra
    files = {
        "model.safetensors": save(model_tensors(learner.model)),
        "optim.safetensors": save(optimizer_tensors(learner.optimizer)),
        "rng.safetensors": save(random_tensors()),
        "state.json": json.dumps(state, indent=2).encode(),
    }
    size = sum(map(len, files.values()))
    _check_space(folder, size)
    staging = folder / f".tmp-{learner.step}-{os.getpid()}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for name, data in files.items():
            _write_flushed(staging / name, data)
        _write_flushed(staging / MANIFEST, _manifest(files))
        fsync_folder(staging)
        os.rename(staging, final)
        fsync_folder(folder)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise UserError(
            f"could not save {final} ({size:,} bytes): {error.strerror or error}; "
            "older snapshots are untouched: free some space, then --resume"
        ) from None
    return final


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.1 * size:
        raise UserError(
            f"{folder}: a snapshot needs {size:,} bytes and the disk has {free:,} free;"
            " older snapshots are untouched: free some space, then --resume"
        )


def _write_flushed(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _manifest(files: dict[str, bytes]) -> bytes:
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    return json.dumps({"version": 1, "files": entries}, indent=2).encode()


# ---- reading -------------------------------------------------------------------------


def read_snapshot(path: Path) -> Snapshot:
    """Read one snapshot, checking every byte against its manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        entries = dict(manifest["files"])
        data = {name: (path / name).read_bytes() for name in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedSnapshotError(f"snapshot {path} is damaged: {error}") from None
    for name, entry in entries.items():
        if hashlib.sha256(data[name]).hexdigest() != entry["sha256"]:
            raise DamagedSnapshotError(
                f"snapshot {path} is damaged: {name} does not match its checksum"
            )
    try:
        return Snapshot(
            path=path,
            model=load(data["model.safetensors"]),
            optimizer=load(data["optim.safetensors"]),
            rng=load(data["rng.safetensors"]),
            state=json.loads(data["state.json"]),
        )
    except KeyError as error:
        raise DamagedSnapshotError(
            f"snapshot {path} is damaged: no {error.args[0]} in its manifest"
        ) from None


def snapshot_paths(folder: Path) -> list[Path]:
    """All finished snapshots, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def newest_snapshot(
    folder: Path, say: Callable[[str], None] = print
) -> Snapshot | None:
    """The newest snapshot that is whole; damaged ones are named and passed over."""
    for path in reversed(snapshot_paths(folder)):
        try:
            return read_snapshot(path)
        except DamagedSnapshotError as error:
            say(f"{error}; trying the one before")
    return None


# ---- keeping house -------------------------------------------------------------------


def remove_stale(folder: Path) -> None:
    """Remove staging folders; call it with the run's lock held, so none is in use."""
    if folder.is_dir():
        for path in folder.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, keep: int, best: int | None = None) -> None:
    """Keep the newest `keep` snapshots and the one of step `best`; remove the others.

    The newest one is read back and verified first: nothing older is removed for the
    sake of a snapshot that can't be read.
    """
    paths = snapshot_paths(folder)
    doomed = [p for p in paths[: -max(1, keep)] if _step(p) != best]
    if not doomed:
        return
    read_snapshot(paths[-1])
    for path in doomed:
        # rename first: a folder half removed must not look like a snapshot
        grave = folder / f".tmp-removed-{path.name}-{os.getpid()}"
        try:
            os.rename(path, grave)
        except OSError:
            continue
        shutil.rmtree(grave, ignore_errors=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
