"""The machine: devices, precision, seeds, ranks, and what it is made of."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from folio.config import UserError

T = TypeVar("T")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str = "auto") -> torch.device:
    """`auto` picks CUDA, then Apple's MPS, then the CPU; a named device must exist."""
    has = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, present in has.items() if present)
    if not has.get(name.split(":")[0], False):
        present = ", ".join(kind for kind, found in has.items() if found)
        raise UserError(f"device {name!r} is not available here; found: {present}")
    return torch.device(name)


def doubles(x: torch.Tensor) -> torch.Tensor:
    """x in double precision: where it is, or on the host if its device has none.

    Apple's GPUs have no doubles.
    """
    return (x.cpu() if x.device.type == "mps" else x).double()


def seed_everything(seed: int) -> None:
    """Seed the generators that initialization and dropout draw from."""
    torch.manual_seed(seed)


# ---- ranks: the processes of one run -------------------------------------------------

PATIENCE = timedelta(hours=2)  # the first rank may prepare data, or evaluate, so long


class _Shares:
    """How ranks share the work: `tensor` neighbours read the same data."""

    tensor = 1
    data_group: dist.ProcessGroup | None = None  # of one of each; none: all ranks
    mesh: DeviceMesh | None = None


def init_distributed(device: str = "auto") -> tuple[int, int]:
    """Join the process group that `torchrun` set up. Returns (rank, world)."""
    if "RANK" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        cuda = torch.cuda.is_available() and device.split(":")[0] in ("auto", "cuda")
        if cuda:
            torch.cuda.set_device(_own_gpu())
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    return dist.get_rank(), dist.get_world_size()


def _own_gpu() -> int:
    """The number of the GPU that is this process's alone."""
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise UserError(
            f"process {number} of this machine has no GPU of its own, for there are "
            f"{count}; start at most --nproc-per-node {count}"
        )
    return number


def share_ranks(tensor: int = 1) -> None:
    """Let groups of `tensor` neighbouring ranks work on one batch together.

    Ranks lie in a mesh ("data", "tensor"): rank r reads what is meant for reader
    r // tensor. UserError if the groups don't come out even.
    """
    world = world_size()
    if tensor < 1 or world % tensor:
        raise UserError(
            f"parallel.tensor = {tensor}: must divide the number of processes, {world};"
            " start another number with torchrun --nproc-per-node"
        )
    _Shares.tensor, _Shares.data_group, _Shares.mesh = tensor, None, None
    if world > 1:
        kind = communication_device().type
        shape, names = (world // tensor, tensor), ("data", "tensor")
        _Shares.mesh = init_device_mesh(kind, shape, mesh_dim_names=names)
        _Shares.data_group = _Shares.mesh.get_group("data")


def rank_mesh() -> DeviceMesh:
    """The ranks as `share_ranks` laid them out: ("data", "tensor")."""
    if _Shares.mesh is None:
        share_ranks()
    return _Shares.mesh


def rank() -> int:
    """This process's rank; 0 when there is only one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of cooperating processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def data_rank() -> int:
    """Which of the readers of different data this process belongs to."""
    return rank() // _Shares.tensor


def data_world() -> int:
    """Number of readers of different data: the processes over the tensor groups."""
    return world_size() // _Shares.tensor


def data_group() -> dist.ProcessGroup | None:
    """The ranks to sum over: one of each reader. None: all of them."""
    return _Shares.data_group


def communication_device() -> torch.device:
    """Where a tensor must be to be sent to other ranks."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def barrier() -> None:
    """Wait until every rank has come here."""
    if dist.is_initialized():
        dist.barrier()


def anyone(flag: bool) -> bool:
    """True on every rank if it is true on one; to be asked by all at once."""
    if world_size() == 1:
        return flag
    count = torch.tensor(float(flag), device=communication_device())
    dist.all_reduce(count)
    return bool(count > 0)


def told_by_all(mine: T, group: dist.ProcessGroup | None = None) -> list[T]:
    """What each rank has to say, in their order; to be asked by all at once."""
    if world_size() == 1:
        return [mine]
    parts: list = [None] * dist.get_world_size(group)
    dist.all_gather_object(parts, mine, group=group)
    return parts


class SaidElsewhereError(UserError):
    """A mistake that ends all ranks; another one has said what it is."""


@contextmanager
def first_alone() -> Iterator[Callable[[], None]]:
    """Around what the first rank does before others may go on.

    It calls what it is given when they may; if it fails before, they end with it.
    """
    waiting = True

    def go_on() -> None:
        nonlocal waiting
        waiting = False
        anyone(False)

    try:
        yield go_on
    except BaseException:
        if waiting:
            anyone(True)
        raise


def wait_for_first() -> None:
    """What the others do while the first rank is in `first_alone`."""
    if anyone(False):
        raise SaidElsewhereError("the first process could not begin")


@contextmanager
def lost_ranks_told() -> Iterator[None]:
    """A rank that is gone is no bug of this one: a UserError says what to do."""
    try:
        yield
    except RuntimeError as error:
        network = isinstance(error, dist.DistError) or "gloo" in str(error)
        if world_size() == 1 or not network:
            raise
        raise UserError(
            "another process of this run has ended or can't be reached, so this one "
            "can't go on; --resume goes on from the newest snapshot"
        ) from error


def first_to_say(text: str, patience: float = 1.0) -> bool:
    """Whether no other rank has said the same; each says it and then ends."""
    if not dist.is_initialized():
        return os.environ.get("RANK", "0") == "0"
    name = f"said-{hashlib.sha256(text.encode()).hexdigest()}"
    try:
        store = dist.distributed_c10d._get_default_store()
        first = store.add(name, 1) == 1
        end = time.monotonic() + patience
        # The store may be this process's own: it has to outlive their question
        while not rank() and store.add(name, 0) < world_size():
            if time.monotonic() > end:
                break
            time.sleep(0.01)
    except RuntimeError:
        return True  # better twice than never
    return first


# ---- the machine ---------------------------------------------------------------------


def machine() -> dict[str, str | int]:
    """What a result was measured on: processor, cores, accelerator, versions."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": f"{_processor()}, {cores()} cores",
        "cores": cores(),
        "accelerator": accelerator or "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the folio sources, if they lie in a git checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
