"""Snapshots: everything needed to go on, bit for bit, as if nothing had happened.

A snapshot is a folder `step-00000500/` that is either whole or absent:

    model.safetensors  optim.safetensors  rng.safetensors  state.json  manifest.json

It is written beside as `.tmp-500-<pid>`, each file is flushed to disk, the manifest
(sha256 and size of every other file) last; then the folder is renamed into place. What
dies on the way leaves a `.tmp-` folder, which the next start removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from folio.config import UserError
from folio.files import TEMPORARY, fsync_folder, make_folder
from folio.model.store import load_tensors, model_tensors
from folio.training.learner import Learner
from folio.training.nonfinite import NonFiniteError, bad_weight
from folio.training.parts import (
    FILES,
    MANIFEST,
    DamagedSnapshotError,
    TensorsInFiles,
    file_names,
    manifest_of,
    verify,
)
from folio.training.parts import write_flushed as _write_flushed

_NAME = re.compile(r"step-\d{8,}")


@dataclass(frozen=True)
class Snapshot:
    """What was read back: tensors by file, and the JSON state."""

    path: Path
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    rng: dict[str, Tensor]
    state: dict[str, Any]


# ---- optimizer state and random state as named tensors -------------------------------


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Each parameter's state as `parameter.key`, under the names of `decay_groups`."""
    return {
        f"{name}.{key}": tensor.detach().to("cpu").contiguous()
        for name, key, tensor in named_state(optimizer)
    }


def named_state(
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[str, str, Tensor]]:
    """All that the optimizer remembers: (parameter, key, tensor)."""
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            yield name, key, value if isinstance(value, Tensor) else torch.tensor(value)


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    part: Callable[[str, Tensor], Tensor] = lambda name, whole: whole,
) -> None:
    """Put back what `optimizer_tensors` took out.

    A parameter without state stays without: it has not been updated yet, as after a
    first update that was skipped. `part`: what this process has of a parameter's.
    """
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter_name, key = name.rsplit(".", 1)
        mine = part(parameter_name, tensor).clone()
        by_parameter.setdefault(parameter_name, {})[key] = mine
    optimizer.state.clear()
    for name, parameter in _named(optimizer):
        # step counters live with the weights: the fused kernel wants them there
        if state := by_parameter.pop(name, None):
            optimizer.state[parameter] = {
                key: tensor.to(parameter.device) for key, tensor in state.items()
            }
    if by_parameter:
        raise UserError(
            f"the snapshot's optimizer has {min(by_parameter)!r}, this model has not"
        )


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
    ranks = learner.ranks
    if ranks.split:
        ranks.load(snapshot.model)
    else:
        load_tensors(learner.model, dict(snapshot.model))
    load_optimizer(learner.optimizer, snapshot.optimizer, ranks.part)
    ranks.gather()  # who samples from the model needs it as it now is
    load_random(snapshot.rng)
    state = snapshot.state["learner"]
    learner.step, learner.denominator = state["step"], state["denominator"]
    learner.skipped_in_a_row = state["skipped_in_a_row"]
    learner.scaler.load_state_dict(state["scaler"])


# ---- writing -------------------------------------------------------------------------


def save_snapshot(folder: Path, learner: Learner, extra: dict[str, Any]) -> Path:
    """Write the snapshot of this step into `folder`. Returns its path.

    `extra` (JSON) is kept beside the learner's state: the stream's position, the best
    loss so far. A disk that is full or fails is a one-line error, and older snapshots
    stay as they were. Weights that are not finite are refused: no snapshot has them.
    """
    final = folder / f"step-{learner.step:08d}"
    if _is_whole(final):  # resumed at this very step
        return final
    if name := bad_weight(learner.ranks.named_parameters()):
        raise NonFiniteError(
            f"step {learner.step}: the weight {name} is not finite, so it was not "
            "saved. Lower --optim.lr; older snapshots are untouched"
        )
    state = {"learner": learner_state(learner)} | extra
    files = {
        "model.safetensors": save(model_tensors(learner.model)),
        "optim.safetensors": save(optimizer_tensors(learner.optimizer)),
        "rng.safetensors": save(random_tensors()),
        "state.json": json.dumps(state, indent=2).encode(),
    }
    size = sum(map(len, files.values()))
    staging = folder / f"{TEMPORARY}{learner.step}-{os.getpid()}"
    try:
        make_folder(folder)
        check_space(folder, size)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for name, data in files.items():
            _write_flushed(staging / name, data)
        _write_flushed(staging / MANIFEST, _manifest(files))
        fsync_folder(staging)
        if final.exists():  # a damaged one, which has been passed over
            remove(final)
        os.rename(staging, final)
        fsync_folder(folder)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise UserError(
            f"could not save {final} ({size:,} bytes): {error.strerror or error}; "
            "older snapshots are untouched: free some space, then --resume"
        ) from None
    return final


def check_space(folder: Path, size: int) -> None:
    """Raise a UserError unless the disk has room for `size` bytes, and some more."""
    free = shutil.disk_usage(folder).free
    if free < 1.1 * size:
        raise UserError(
            f"{folder}: a snapshot needs {size:,} bytes and the disk has {free:,} free;"
            " older snapshots are untouched: free some space, then --resume"
        )


def _manifest(files: dict[str, bytes]) -> bytes:
    return manifest_of(
        {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        }
    )


# ---- reading -------------------------------------------------------------------------


def read_snapshot(path: Path) -> Snapshot:
    """Read one snapshot, checking every byte against its manifest.

    One that ranks wrote in parts is checked by all ranks together, and its tensors are
    read when they are asked for.
    """
    names = file_names(path)
    if names != FILES:
        verify(path, names, together=True)
        return Snapshot(
            path=path,
            model=TensorsInFiles([path / n for n in names if n.startswith("model")]),
            optimizer=TensorsInFiles([path / n for n in names if n.startswith("opt")]),
            rng=load((path / "rng.safetensors").read_bytes()),
            state=json.loads((path / "state.json").read_bytes()),
        )
    data = _read_checked(path)
    return Snapshot(
        path=path,
        model=load(data["model.safetensors"]),
        optimizer=load(data["optim.safetensors"]),
        rng=load(data["rng.safetensors"]),
        state=json.loads(data["state.json"]),
    )


def _read_checked(path: Path) -> dict[str, bytes]:
    """Every file's bytes, after comparing with the manifest."""
    try:
        manifest = (path / MANIFEST).read_bytes()
        data = {name: (path / name).read_bytes() for name in FILES}
    except OSError as error:
        raise DamagedSnapshotError(
            f"snapshot {path} is damaged: {Path(error.filename or path).name}: "
            f"{error.strerror}"
        ) from None
    # The manifest is made again and compared byte for byte, so it covers itself, too.
    if manifest != _manifest(data):
        raise DamagedSnapshotError(
            f"snapshot {path} is damaged: {_culprit(manifest, data)} does not match "
            "its checksum"
        )
    return data


def _culprit(manifest: bytes, data: dict[str, bytes]) -> str:
    """Which file differs from what the manifest says; maybe the manifest itself."""
    for name in FILES:
        if hashlib.sha256(data[name]).hexdigest().encode() not in manifest:
            return name
    return MANIFEST


def check_snapshot(path: Path) -> None:
    """Raise a DamagedSnapshotError unless it is whole; one process asks."""
    names = file_names(path)
    if names != FILES:
        verify(path, names, together=False)
    else:
        _read_checked(path)


def _is_whole(path: Path) -> bool:
    try:
        check_snapshot(path)
    except DamagedSnapshotError:
        return False
    return True


def snapshot_paths(folder: Path) -> list[Path]:
    """All finished snapshots, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_step)


def newest_snapshot(
    folder: Path, say: Callable[[str], None] = print
) -> Snapshot | None:
    """The newest snapshot that is whole; damaged ones are named and passed over.

    None if there is none yet; if there are some, but none whole, a UserError: to
    begin again without a word would throw away the log, too.
    """
    paths = snapshot_paths(folder)
    for path in reversed(paths):
        try:
            return read_snapshot(path)
        except DamagedSnapshotError as error:
            if path == paths[0]:
                raise UserError(
                    f"{error}, and no other is left; start a new run with --run"
                ) from None
            say(f"{error}; trying the one before")
    return None


# ---- keeping house -------------------------------------------------------------------


def prune(
    folder: Path,
    keep: int,
    best: int | None = None,
    say: Callable[[str], None] = print,
    check: Callable[[Path], None] = check_snapshot,
) -> None:
    """Keep the newest `keep` snapshots and the one of step `best`; remove the others.

    The newest one is read back and verified first: nothing older is removed for the
    sake of a snapshot that can't be read.
    """
    paths = snapshot_paths(folder)
    doomed = [p for p in paths[: -max(1, keep)] if _step(p) != best]
    if not doomed:
        return
    try:
        check(paths[-1])
    except DamagedSnapshotError as error:
        say(f"{error}; keeping all older ones")
        return
    for path in doomed:
        # one that can't be removed costs space, not the run
        with contextlib.suppress(OSError):
            remove(path)


def remove(path: Path) -> None:
    """Rename first: a folder half removed must not look like a snapshot."""
    grave = path.with_name(f"{TEMPORARY}removed-{path.name}-{os.getpid()}")
    shutil.rmtree(grave, ignore_errors=True)  # of the same step before, half removed
    os.rename(path, grave)
    shutil.rmtree(grave, ignore_errors=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
