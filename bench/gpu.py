"""Everything that only a CUDA card can show: right, fast, and in how much memory.

    python bench/gpu.py --nanogpt PATH --text tinyshakespeare.txt
    python bench/gpu.py --only correctness memory --resume --results FOLDER --minutes 9
    python bench/gpu.py --device cpu --quick          every line, in tiny sizes

Each part is a module of `bench/gpu_parts` and a list of cases. A case prints its rows
as they come, and the record is written anew after each, so that a session that ends
early keeps what it had; the next one adds to it. `--resume` leaves out cases that the
record has without an error. A case that fails is a row with the error's first line,
the others go on, and the exit status is 1.

How long each part takes on a card is unknown until it has run there; then the row
"seconds" of each case says it. Warm-up (compiling, the first steps) is never timed,
except in `shakespeare`, whose seconds have it in them.

The value is the share of the card's nominal bf16 rate that training 124 M parameters in
bf16 autocast reaches by its fastest way (MFU, operations by `flops_per_token`: causal
attention counts half); where the nominal rate is unknown, the share of the measured.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

import record as records
from folio.runtime import find_device
from gpu_parts import card, correctness, decoding, memory, shakespeare, training
from gpu_parts.card import Row, Setup, first_line, release

GOAL = 0.55  # of the nominal rate, at 124 M
PARTS = {
    "correctness": correctness.cases,
    "train": training.cases,
    "decode": decoding.cases,
    "memory": memory.cases,
    "shakespeare": shakespeare.cases,
}
KEY = ("part", "case")


class Sheet:
    """All rows, those of earlier sessions too, and the file they are in."""

    def __init__(self, name: str, quick: bool):
        self.name, self.rows, self.failed = name, [], []
        path = records.RESULTS / f"{name}.json"
        if path.is_file():
            saved = json.loads(path.read_text())
            if saved["quick"] == quick:  # tiny sizes and real ones don't mix
                self.rows = saved["rows"]

    def has(self, part: str, case: str) -> bool:
        """Was this case measured, and without an error?"""
        found = [row for row in self.rows if (row["part"], row["case"]) == (part, case)]
        return bool(found) and all(row.get("ok", True) for row in found)

    def run(self, part: str, case: str, work: Callable[[], Iterable[Row]]) -> None:
        """Work through one case; what an earlier session said of it is forgotten."""
        key = {"part": part, "case": case}
        self.rows = [r for r in self.rows if (r["part"], r["case"]) != (part, case)]
        print(f"-- {part}: {case}", flush=True)
        start = time.perf_counter()
        try:
            for row in work():
                self.add(key | row)
        except Exception as error:
            error.__traceback__ = None  # its frames hold tensors
            self.add(key | {"ok": False, "error": first_line(error)})
        took = round(time.perf_counter() - start, 2)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        about = {"seconds": took, "date": now, "commit": records.commit()}
        self.add(
            key | about | {"command": records.command(), "torch": torch.__version__}
        )
        release()
        with contextlib.redirect_stdout(io.StringIO()):
            self.save()

    def add(self, row: Row) -> None:
        """Show a row and keep it."""
        self.rows.append(row)
        if not row.get("ok", True):
            self.failed.append(row)
        shown = (f"{k}={_short(v)}" for k, v in row.items() if k not in KEY)
        if "command" not in row:
            print("   " + "  ".join(shown), flush=True)

    def save(self) -> None:
        """Write the record, and print its last line."""
        records.record(self.name, headline(self.rows), GOAL, self.rows)


def headline(rows: list[Row]) -> float:
    """The best MFU at 124 M with weights that can learn; 0 if none was measured.

    >>> fast = {"case": "124M bf16 weights", "mfu": 0.6}
    >>> headline([{"case": "124M bf16 autocast", "mfu": 0.4}, fast])
    0.4
    """
    case = f"124M {training.AUTOCAST}"
    return max(
        (r["mfu"] for r in rows if r["case"] == case and "mfu" in r), default=0.0
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def make_setup(arguments) -> Setup:
    device = find_device(arguments.device)
    return Setup(
        device=device,
        quick=arguments.quick,
        sizes=tuple(arguments.sizes),
        batches=tuple(arguments.batches),
        nanogpt=arguments.nanogpt and Path(arguments.nanogpt).resolve(),
        text=arguments.text and Path(arguments.text).resolve(),
    )


def main() -> None:
    arguments = records.parse_arguments(
        __doc__,
        ("--only", {"nargs": "+", "choices": list(PARTS), "default": list(PARTS)}),
        ("--device", {"default": "cuda" if torch.cuda.is_available() else "cpu"}),
        ("--sizes", {"nargs": "+", "default": ["124M", "350M", "1B", "7B"]}),
        ("--batches", {"nargs": "+", "type": int, "default": [1, 32, 8, 128]}),
        ("--nanogpt", {"help": "a checkout of nanoGPT, to train beside"}),
        ("--text", {"help": "tinyshakespeare.txt, to learn"}),
        ("--results", {"type": Path, "help": "folder of the record"}),
        ("--minutes", {"type": float, "default": 1e9, "help": "then begin no more"}),
        ("--resume", {"action": "store_true", "help": "leave out what is recorded"}),
    )
    end = time.monotonic() + 60 * arguments.minutes
    setup = make_setup(arguments)
    if not setup.cuda and not arguments.quick:
        sys.exit("these sizes are for a card; on a CPU add --quick")
    if arguments.results is not None:
        records.RESULTS = arguments.results.resolve()
    sheet = Sheet("gpu" if setup.cuda else "gpu_rehearsal", arguments.quick)
    for case, work in card.cases(setup):
        sheet.run("card", case, work)
    for part in arguments.only:
        for case, work in PARTS[part](setup):
            if arguments.resume and sheet.has(part, case):
                continue
            if time.monotonic() > end:
                print(f"-- {part}: {case}: not begun, out of time", flush=True)
                continue
            sheet.run(part, case, work)
    for row in sheet.failed:
        print(f"FAILED {row}")
    sheet.save()
    sys.exit(1 if sheet.failed else 0)


if __name__ == "__main__":
    main()
