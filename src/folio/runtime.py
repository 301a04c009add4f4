"""The machine: devices, precision, seeds, ranks, and what it is made of."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch
import torch.distributed as dist

from folio.config import UserError

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


def seed_everything(seed: int) -> None:
    """Seed the generators that initialization and dropout draw from."""
    torch.manual_seed(seed)


def init_distributed() -> tuple[int, int]:
    """Join the process group that `torchrun` set up. Returns (rank, world)."""
    if "RANK" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return dist.get_rank(), dist.get_world_size()


def rank() -> int:
    """This process's rank; 0 when there is only one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of cooperating processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank has come here."""
    if dist.is_initialized():
        dist.barrier()


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
