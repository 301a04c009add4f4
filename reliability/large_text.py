"""A text of many gigabytes is tokenised, trained on and resumed: in how much memory?

The text is made by the embedded generator, from as many processes as there are cores.
Each phase runs in a process of its own, and its peak of memory is what the system says:
what was allocated, and besides it the pages of mapped token files, which the system
takes back when it needs them. Promised is that what is allocated does not grow with the
text: it is compared with the same phases on a tenth of it.

    python -m reliability.large_text --gb 3
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from folio.data import tales
from folio.runtime import cores
from folio.text.parallel import parallel_map
from reliability.record import record_facts

STORIES = 2_000  # told at once by one process: about a megabyte
PHASES = ("tokenise", "train", "resume")
GROWTH = 64.0  # MiB that a tenfold text may take more, in any phase
ROOT = Path(__file__).resolve().parent.parent

RECIPE = """\
name = "large"
seed = 1

[data]
path = "{text}"
shards = "{shards}"
val_fraction = 0.0002

[tokenizer]
kind = "{kind}"
vocab_size = 512
sample_megabytes = 4.0

[model]
d_model = 32
n_layers = 1
n_heads = 2
max_seq_len = 64

[train]
steps = {steps}
batch = 8
eval_every = 0
save_every = {steps}
device = "cpu"

[sample]
every = 0
"""


def some_stories(seed: int) -> str:
    """Stories of one seed, an empty line after each."""
    told = tales.documents(seed)
    return "".join(next(told) + "\n\n" for _ in range(STORIES))


def write_text(path: Path, size: int) -> int:
    """Write at least `size` bytes of stories to `path`; returns how many."""
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        seeds = iter(range(10**9))
        for text in parallel_map(some_stories, seeds, cores()):
            file.write(text)
            written += len(text.encode())
            if written >= size:
                return written
    return written


# ---- one phase, in a process of its own ----------------------------------------------


def run_phase(home: Path, phase: str, steps: int, kind: str) -> dict[str, float]:
    """Seconds and peak memory (MiB) of one phase, measured from outside."""
    names = {"text": home / "text.txt", "shards": home / "shards"}
    values = {"steps": steps * (2 if phase == "resume" else 1), "kind": kind}
    recipe = home / f"{phase}.toml"
    recipe.write_text(RECIPE.format(**names, **values))
    resume = ["--resume"] if phase == "resume" else []
    command = [sys.executable, "-m", "folio", "pretrain", str(recipe), *resume]
    if phase == "tokenise":  # the first of two runs on the same shards
        command += ["--train.steps", "1", "--run", str(home / "first")]
    else:
        command += ["--run", str(home / "run")]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peaks = _watch(process)
    assert process.returncode == 0, peaks["said"]
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "allocated_mib": peaks["allocated"],
        "with_mapped_mib": peaks["resident"],
    }


def _watch(process: subprocess.Popen) -> dict[str, Any]:
    """The most memory of a process and its children, looked at ten times a second."""
    peaks: dict[str, Any] = {"allocated": 0.0, "resident": 0.0, "said": ""}
    reader = threading.Thread(
        target=lambda: peaks.update(said=process.stdout.read().decode()[-500:])
    )
    reader.start()
    while process.poll() is None:
        found = [_memory(pid) for pid in _family(process.pid)]
        for name in ("allocated", "resident"):
            total = sum(each[name] for each in found)
            peaks[name] = max(peaks[name], round(total, 1))
        time.sleep(0.1)
    reader.join()
    return peaks


def _family(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return [pid]
    return [pid, *(each for child in text.split() for each in _family(int(child)))]


def _memory(pid: int) -> dict[str, float]:
    """MiB now: private pages, and all that are resident."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {"allocated": 0.0, "resident": 0.0}
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE))
    names = {"allocated": "RssAnon", "resident": "VmRSS"}
    return {key: int(kilobytes.get(name, 0)) / 1024 for key, name in names.items()}


def measure(home: Path, size: int, steps: int, kind: str) -> dict[str, Any]:
    """All phases on a text of `size` bytes."""
    home.mkdir()
    start = time.perf_counter()
    written = write_text(home / "text.txt", size)
    row: dict[str, Any] = {"bytes": written}
    row["telling_seconds"] = round(time.perf_counter() - start, 1)
    print(f"{written:,} bytes told in {row['telling_seconds']} s", flush=True)
    for phase in PHASES:
        row[phase] = run_phase(home, phase, steps, kind)
        print(f"  {phase}: {row[phase]}", flush=True)
    shards = sum(path.stat().st_size for path in (home / "shards").iterdir())
    row["shard_bytes"] = shards
    shutil.rmtree(home)
    return row


def main() -> int:
    """0 if no phase takes more memory for ten times the text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=3.0, help="gigabytes of text")
    parser.add_argument("--steps", type=int, default=200, help="of each of two parts")
    parser.add_argument("--tokenizer", default="bpe", choices=["bpe", "byte", "char"])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "large-text")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [
        measure(options.folder / f"part-{os.getpid()}", int(size), options.steps, kind)
        for kind in (options.tokenizer,)
        for size in (options.gb * 1e8, options.gb * 1e9)
    ]
    growth = {
        phase: round(
            rows[1][phase]["allocated_mib"] - rows[0][phase]["allocated_mib"], 1
        )
        for phase in PHASES
    }
    constant = max(growth.values()) <= GROWTH
    facts = {"rows": rows, "growth_mib": growth, "allowed_mib": GROWTH}
    record_facts("large_text", facts | {"constant": constant})
    print(
        f"large_text: growth {growth} MiB, {'constant' if constant else 'NOT CONSTANT'}"
    )
    return 0 if constant else 1


if __name__ == "__main__":
    sys.exit(main())
