"""The card: what it is, what it can do when nothing is in the way, and the clock."""

from __future__ import annotations

import gc
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
Case = tuple[str, Callable[[], Iterable[Row]]]

# Dense bf16, FLOP/s, by the vendor's data sheets; the first name that fits counts
NOMINAL = {"H200": 989.4e12, "H100 PCIe": 756e12, "H100": 989.4e12, "A100": 312e12}


@dataclass
class Setup:
    """What all parts are told, and the ceilings that they compare with."""

    device: torch.device
    quick: bool  # tiny sizes, to see every line run
    sizes: tuple[str, ...]
    batches: tuple[int, ...]
    nanogpt: Path | None = None
    text: Path | None = None
    matmul: float = 0.0  # measured, bf16, FLOP/s
    nominal: float | None = None  # of the data sheet
    bandwidth: float = 0.0  # measured, bytes/s, read and written

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"


def cases(setup: Setup) -> Iterator[Case]:
    """The one case of this part, which every session begins with."""
    yield "ceilings", lambda: [measure(setup)]


def measure(setup: Setup) -> Row:
    """Find the ceilings, keep them in `setup`, and say whose they are."""
    size, number = (8192, 2**30) if setup.cuda and not setup.quick else (256, 2**20)
    kind = {"device": setup.device, "dtype": torch.bfloat16}
    a, b = torch.randn(size, size, **kind), torch.randn(size, size, **kind)
    setup.matmul = 2 * size**3 / seconds_of(lambda: a @ b)
    source = torch.zeros(number, device=setup.device)
    target = torch.empty_like(source)
    setup.bandwidth = 8 * number / seconds_of(lambda: target.copy_(source))
    row: Row = {"matmul_tflops": setup.matmul / 1e12}
    row["bandwidth_gb_per_s"] = setup.bandwidth / 1e9
    return row | (_facts(setup) if setup.cuda else {"name": "no card: the CPU"})


def _facts(setup: Setup) -> Row:
    properties = torch.cuda.get_device_properties(setup.device)
    found = [rate for name, rate in NOMINAL.items() if name in properties.name]
    setup.nominal = found[0] if found else None
    return {
        "name": properties.name,
        "memory_gib": properties.total_memory / 2**30,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nominal_tflops": found[0] / 1e12 if found else None,
    }


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(ask, capture_output=True, text=True).stdout.strip() or None


# ---- the clock, and memory -----------------------------------------------------------


def synchronize() -> None:
    """Wait for what is queued on the card, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(function: Callable[[], Any], warmup: int = 3, times: int = 10) -> float:
    """Mean seconds of one call, of `times` queued in a row after `warmup` untimed.

    On the card by CUDA's events, which leave out what the host does before and after.
    """
    for _ in range(warmup):
        function()
    synchronize()
    if not torch.cuda.is_available():
        start = time.perf_counter()
        for _ in range(times):
            function()
        return (time.perf_counter() - start) / times
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(times):
        function()
    last.record()
    synchronize()
    return first.elapsed_time(last) / 1e3 / times


def release() -> None:
    """Give back what an earlier case held: memory, compiled code, its graphs."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        from torch._inductor.cudagraph_trees import reset_cudagraph_trees

        reset_cudagraph_trees()  # their pools are not the allocator's to empty
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(setup: Setup) -> float | None:
    """The most memory that tensors took since the last `release`; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if setup.cuda else None


def out_of_memory(error: BaseException) -> bool:
    """Did the card's memory end? cuBLAS says it in words of its own."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return "out of memory" in str(error) or "ALLOC_FAILED" in str(error)


def first_line(error: BaseException) -> str:
    """An error in one line, with its kind."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]
