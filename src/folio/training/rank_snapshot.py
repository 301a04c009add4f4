"""Snapshots of weights that no process has whole: all ranks write, one seals.

PyTorch's own format (distributed.checkpoint) keeps what it needs to find things again
in a pickle, and its safetensors writer knows neither our manifest nor optimizers. So
each tensor is put together on one rank, and each rank writes those that fell to it:
ordinary safetensors files of whole tensors, about equally large, which one process or
any other number of them can read again. Nothing else differs from
`folio.training.snapshot`: staged beside, flushed, sealed by a manifest, renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save
from torch import Tensor

from folio.config import UserError
from folio.files import TEMPORARY, fsync_folder, make_folder
from folio.model.store import stored
from folio.runtime import anyone, barrier, rank, told_by_all, world_size
from folio.training.cuts import local
from folio.training.learner import Learner
from folio.training.nonfinite import NonFiniteError, bad_weight
from folio.training.parts import (
    MANIFEST,
    DamagedSnapshotError,
    entry,
    file_names,
    manifest_of,
    part_names,
    verify,
    write_flushed,
)
from folio.training.snapshot import (
    check_space,
    learner_state,
    named_state,
    prune,
    random_tensors,
    remove,
    snapshot_paths,
)

if TYPE_CHECKING:  # it brings all of PyTorch's distribution with it
    from folio.training.sharded import Sharded


def dealt_out(sizes: Sequence[int], world: int) -> list[int]:
    """Whose each tensor is, so that all write about as much: the largest go first.

    >>> dealt_out([10, 60, 50, 20], 2)
    [0, 0, 1, 1]
    """
    load, owners = [0] * world, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[index] = load.index(min(load))
        load[owners[index]] += sizes[index]
    return owners


def save_together(
    folder: Path, learner: Learner, extra: Callable[[], dict[str, Any]]
) -> Path:
    """Write the snapshot of this step into `folder`; all ranks at once.

    As `save_snapshot`, which one process calls. `extra` is asked on the first rank.
    A rank that fails (its disk is full) is a one-line error of all of them.
    """
    final = folder / f"step-{learner.step:08d}"
    if anyone(final.exists()) and is_whole(final):  # resumed at this very step
        return final
    _check_finite(learner)
    staging = folder / f"{TEMPORARY}{learner.step}-of-{world_size()}"
    entries: dict[str, Any] = {}
    try:
        with one_for_all():
            if not rank():
                make_folder(folder)
                check_space(folder, _bytes(learner))
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir()
        entries = _write_parts(staging, learner)
        with one_for_all():
            if not rank():
                _seal(staging, final, learner, extra(), entries)
        barrier()  # nobody looks for it before it is there
    except OSError as error:
        if not rank():
            shutil.rmtree(staging, ignore_errors=True)
        raise UserError(
            f"could not save {final}: {error}; older snapshots are untouched: free "
            "some space, then --resume"
        ) from None
    return final


@contextmanager
def one_for_all() -> Iterator[None]:
    """An OSError or UserError of one rank is one of all; all ranks at once."""
    mine: tuple[type[Exception], str] | None = None
    try:
        yield
    except UserError as error:
        mine = UserError, str(error)
    except OSError as error:
        mine = OSError, error.strerror or str(error)
    for problem in told_by_all(mine):
        if problem is not None:
            kind, text = problem
            raise kind(text)


def _check_finite(learner: Learner) -> None:
    name = bad_weight(learner.ranks.named_parameters())
    name = next((each for each in told_by_all(name) if each), None)
    if name:
        raise NonFiniteError(
            f"step {learner.step}: the weight {name} is not finite, so it was not "
            "saved. Lower --optim.lr; older snapshots are untouched"
        )


def _bytes(learner: Learner) -> int:
    """About what all files will hold together."""
    model = sum(x.nbytes for x in stored(learner.ranks.module).values())
    states = learner.optimizer.state.values()
    mine = sum(x.nbytes for s in states for x in s.values() if isinstance(x, Tensor))
    return model + mine * world_size()


def _write_parts(staging: Path, learner: Learner) -> dict[str, Any]:
    """This rank's two files; what the manifest says of the files of all ranks."""
    ranks: Sharded = learner.ranks
    weights = [(n, n, local(x)) for n, x in stored(ranks.module).items()]
    state = sorted(  # it may have been read from a file in any order
        (
            (f"{name}.{key}", name, tensor)
            for name, key, tensor in named_state(learner.optimizer)
        ),
        key=lambda each: each[0],
    )
    found: dict[str, Any] = {}
    for stem, tensors in (("model", weights), ("optim", state)):
        mine = _put_together(tensors, ranks)
        written = [name for part in told_by_all(list(mine)) for name in part]
        assert sorted(written) == sorted(name for name, *_ in tensors), "each once"
        name = part_names(stem, world_size())[rank()]
        with one_for_all():
            write_flushed(staging / name, save(mine))
            found[name] = entry(staging / name)
    return {n: x for part in told_by_all(found) for n, x in part.items()}


def _put_together(
    tensors: list[tuple[str, str, Tensor]], ranks: Sharded
) -> dict[str, Tensor]:
    """The whole tensors that fall to this rank, of (name, parameter, this part)."""
    sizes = [ranks.whole_size(name, mine) for _, name, mine in tensors]
    owners = dealt_out(sizes, world_size())
    mine = {}
    for (name, parameter, tensor), owner in zip(tensors, owners, strict=True):
        whole = ranks.whole(parameter, tensor.detach())
        if owner == rank():
            mine[name] = whole.to("cpu", copy=True).contiguous()
    return mine


def _seal(
    staging: Path,
    final: Path,
    learner: Learner,
    extra: dict[str, Any],
    entries: dict[str, Any],
) -> None:
    """The first rank's work: the small files, the manifest, and the name."""
    state = {"learner": learner_state(learner)} | extra
    small = {
        "rng.safetensors": save(random_tensors()),
        "state.json": json.dumps(state, indent=2).encode(),
    }
    for name, data in small.items():
        write_flushed(staging / name, data)
        entries[name] = entry(staging / name)
    manifest = manifest_of({name: entries[name] for name in file_names(staging)})
    write_flushed(staging / MANIFEST, manifest)
    fsync_folder(staging)
    if final.exists():  # a damaged one, which has been passed over
        remove(final)
    os.rename(staging, final)
    fsync_folder(final.parent)


def is_whole(path: Path) -> bool:
    """Whether a snapshot is what its manifest says; all ranks ask at once."""
    try:
        verify(path, file_names(path), together=True)
    except DamagedSnapshotError:
        return False
    return True


def prune_together(folder: Path, keep: int, best: int | None) -> None:
    """As `prune`, but all ranks together make sure of the newest before."""
    paths = snapshot_paths(folder)
    if not anyone(rank() == 0 and len(paths) > keep):
        return
    newest = told_by_all(str(paths[-1]) if paths else "")[0]
    whole = is_whole(Path(newest))
    if rank() == 0 and whole:
        prune(folder, keep, best, check=lambda path: None)
