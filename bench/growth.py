"""How cost grows: a step's time and memory against each thing that can grow.

    python bench/growth.py [--quick]

Width, depth, context (to 32,768 tokens), vocabulary (to 131,072) and micro-batch grow
one at a time from one small decoder. For each, the exponent of the measured growth, the
slope of a line through the logarithms, stands beside the one that counting predicts:
operations for time, the planner's bytes for memory. A time's exponent below the
predicted one is what small shapes waste, one above it what large ones find too narrow.

The value is the largest difference of measured and predicted exponent of memory, where
counting is exact; exponents of time are the machine's, and in the rows.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from folio.model.count import flops_per_token
from folio.objectives.next_token import next_token
from folio.planning.memory import peak
from folio.stages.assemble import make_learner
from folio.stages.recipe import PretrainRecipe, TrainRecipe
from memory import Case, measure, random_batch
from record import median, parse_arguments, record

GOAL = 0.15
BASE = Case("", {"d_model": 64, "n_heads": 2, "n_layers": 2}, batch=1)
LONG = 20.0  # seconds of a step, from which on one is enough
GROWING: dict[str, list[Any]] = {
    "width": [128, 256, 512, 1024],
    "depth": [2, 4, 8, 16, 32],
    "context": [512, 2048, 8192, 32_768],
    "vocabulary": [2048, 8192, 32_768, 131_072],
    "micro-batch": [2, 8, 32, 128],
}


def case_of(what: str, size: int) -> Case:
    """The base with one thing of it this large."""
    model = BASE.model
    if what == "width":
        shape = {"d_model": size, "n_heads": size // 32}
        return replace(BASE, name=what, model=model | shape)
    if what == "depth":
        return replace(BASE, name=what, model=model | {"n_layers": size})
    if what == "vocabulary":
        return replace(BASE, name=what, model=model | {"vocab_size": size})
    if what == "context":
        return replace(BASE, name=what, length=size)
    return replace(BASE, name=what, batch=size)


def seconds_of(case: Case) -> float:
    """Processor seconds of a step, the median of three unless one is long."""
    options = TrainRecipe(batch=case.batch, length=case.length, device="cpu")
    recipe = PretrainRecipe(model=case.config, train=options)
    learner = make_learner(recipe, case.config.vocab_size)
    taken: list[float] = []
    while len(taken) < 4 and sum(taken) < LONG:
        batch = random_batch(case.config, case.batch, case.length)
        start = time.process_time()
        learner.update([batch], next_token)
        taken.append(time.process_time() - start)
    return median(taken[1:] or taken)  # the first one makes the optimizer's state


def grow(what: str, sizes: list[int]) -> list[dict[str, Any]]:
    """A row for each size, and one with the exponents."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        case = case_of(what, size)
        tokens = case.batch * case.length
        seconds = seconds_of(case)
        rows.append(
            {
                "what": what,
                "size": size,
                "seconds": seconds,
                "tokens_per_s": tokens / seconds,
                "operations": tokens * flops_per_token(case.config, case.length),
                "bytes": measure(case),
                "planned_bytes": round(peak(case.config, case.work).total),
            }
        )
        print(rows[-1], flush=True)
    return [*rows, {"what": what} | exponents(rows)]


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Slopes of the logarithms, over all sizes."""
    size = np.log([row["size"] for row in rows])

    def slope(name: str) -> float:
        return float(np.polyfit(size, np.log([row[name] for row in rows]), 1)[0])

    found = {
        "time_exponent": slope("seconds"),
        "predicted_time_exponent": slope("operations"),
        "memory_exponent": slope("bytes"),
        "predicted_memory_exponent": slope("planned_bytes"),
    }
    print({name: round(value, 3) for name, value in found.items()}, flush=True)
    return found


def main() -> None:
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    rows = []
    for what, sizes in GROWING.items():
        rows += grow(what, sizes[:2] if arguments.quick else sizes)
    apart = [
        abs(row["memory_exponent"] - row["predicted_memory_exponent"])
        for row in rows
        if "memory_exponent" in row
    ]
    record("growth", max(apart), GOAL, rows, higher_is_better=False)


if __name__ == "__main__":
    main()
