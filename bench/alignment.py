"""What `folio demo` gains after pretraining, stage by stage, over several seeds.

Each seed makes its own text, tokenizer and weights and goes the demo's whole way. All
runs answer the same 500 held-out prompts, greedily and four times at temperature 1;
gold is 1 for a right answer and 0.5 for the preferred style, so 1.5 at most. The value
is the smaller of PPO's and GRPO's gain in sampled gold over the fine-tuned model, the
median of the seeds.

--quick: a smaller world, one seed, under a minute of one core; its goal is 0.15.
--keep FOLDER: where the runs are left, and found again; then `wall_s` is of the rest.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from folio.stages.demo import train_all
from folio.stages.gains import Gains, judge_runs
from folio.training.run import Run
from record import median, parse_arguments, record

GOAL, GOAL_QUICK = 0.6, 0.15
POLICIES = ("pretrain", "sft", "dpo", "ppo", "grpo")
TWO_TASKS = {"data": {"tasks": ["first", "last"]}, "answers": {"prompts": 0}}
SHORT = {"eval_every": 0, "save_every": 0}
QUICK: dict[str, dict[str, Any]] = {  # a quarter of the weights, two tasks, seconds
    "pretrain": {
        "data": {"megabytes": 1.0},
        "tokenizer": {"vocab_size": 1024},
        "model": {"d_model": 64, "n_layers": 2},
        "train": {"steps": 150, "eval_every": 150, "save_every": 0},
        "optim": {"warmup": 10},
        "sample": {"every": 0},
    },
    "sft": TWO_TASKS | {"train": {"steps": 150, **SHORT}, "optim": {"lr": 4e-3}},
    "ppo": TWO_TASKS
    | {
        "train": {"steps": 24, **SHORT},
        "optim": {"lr": 5e-4},
        "critic": {"lr": 2e-3},
        "rollout": {"max_new_tokens": 24},
    },
    "grpo": TWO_TASKS
    | {
        "train": {"steps": 16, **SHORT},
        "optim": {"lr": 5e-4},
        "rollout": {"max_new_tokens": 24},
    },
}


def measure(seed: int, folder: Path, quick: bool) -> list[dict[str, Any]]:
    """One row per stage: what it answers, and how long it took."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        if quick:
            runs = train_all(folder, seed, QUICK, only=("sft", "ppo", "grpo"))
            exam = {"prompts": 150, "samples": 2, "tasks": ("first", "last")}
            exam["ladder"] = ()
        else:
            runs, exam = train_all(folder, seed), {}
        policies = {name: runs[name] for name in POLICIES if name in runs}
        gains = judge_runs(policies, **exam)
        print(gains.table())
    rows = [row_of(seed, name, gains, runs[name]) for name in policies]
    if "reward" in runs:
        judged = Run(runs["reward"]).read_info()["results"]
        found = {k: v for k, v in judged.items() if k.startswith("val_accuracy")}
        row = {"seed": seed, "stage": "reward", "seconds": judged["seconds"]}
        rows.append(row | found)
    rows.append({"seed": seed, "stage": "all", "wall_s": time.perf_counter() - start})
    return rows


def row_of(seed: int, name: str, gains: Gains, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"seed": seed, "stage": name}
    for mode in ("greedy", "sampled"):
        for what in ("gold", "accuracy", "style", "exact"):
            row[f"{mode}_{what}"] = round(gains.mean(name, what, mode), 4)
    row["unseen_accuracy"] = round(gains.mean(name, "accuracy", exam="unseen"), 4)
    for exam in ("core", "ladder"):
        if exam in gains.exams:
            row[exam] = {t: round(v, 3) for t, v in gains.by_task(name, exam).items()}
    row["seconds"] = Run(folder).read_info()["results"]["seconds"]
    return row


def gain(rows: list[dict[str, Any]], seed: int) -> float:
    """The smaller of two stages' gains in sampled gold."""
    gold = {r["stage"]: r.get("sampled_gold") for r in rows if r["seed"] == seed}
    return min(gold["ppo"], gold["grpo"]) - gold["sft"]


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--seeds", {"type": int, "nargs": "+", "default": [1, 2, 3]}),
        ("--keep", {"type": Path, "help": "a folder for the runs"}),
    )
    rows: list[dict[str, Any]] = []
    quick = arguments.quick
    seeds = arguments.seeds[:1] if quick else arguments.seeds
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.keep or Path(temporary)
        for seed in seeds:
            rows += measure(seed, home / f"seed-{seed}", quick)
            print({"seed": seed, "gain": gain(rows, seed)}, flush=True)
    value = median([gain(rows, seed) for seed in seeds])
    record("alignment", value, GOAL_QUICK if quick else GOAL, rows)


if __name__ == "__main__":
    main()
