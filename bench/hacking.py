"""Reward hacking, shown and cured: PPO on a reward model that is blind to content.

One fine-tuned model of the demo, four PPO runs that differ in their reward alone:
- blind: a reward model that has seen pairs differing in style only, and no price on
  leaving the fine-tuned model. Its score rises, what is right falls: nobody pays it.
- blind, KL: the same, but each nat away from the fine-tuned model costs 0.2.
- blind + verifier: the most of the reward is whether the answer is right.
- better: the demo's reward model, whose pairs differ in content, too.

Sampled answers to the same held-out prompts are judged as the policy learns. The value
is how much more is right with the better reward model than with the blind one, at the
end; the median over seeds.

--keep FOLDER: where the runs are left, and found again; one of bench/alignment.py has
the first stages already.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from folio.config import build, merge
from folio.files import write_atomically
from folio.stages.demo import SMOKE, finished, read_recipe, train_all
from folio.stages.parent import with_parent
from folio.stages.reward import reward
from folio.stages.rl import ppo
from folio.stages.tuning import PPORecipe, RewardRecipe
from folio.training.log import read_rows
from folio.training.run import Run
from folio.viz.alignment import two_curves
from record import ROOT, median, parse_arguments, record

GOAL = 0.1
STYLE_ONLY = {
    "data": {"categories": ["style"], "sampled": 0, "examples": 0},
    "train": {"steps": 100, "eval_every": 50},
}


def rewards_of(runs: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What each run is paid for, as changes of the demo's PPO recipe."""
    blind = {"model": str(runs["blind"]), "verifier": "none"}
    most = {"verifier": "tales", "model_weight": 0.5, "verifier_weight": 1.0}
    free = {"kl": 0.0}
    return {
        "blind": {"reward": blind, "critic": free},
        "blind, KL": {"reward": blind, "critic": {"kl": 0.2}},
        "blind + verifier": {"reward": blind | most, "critic": free},
        "better": {
            "reward": {"model": str(runs["reward"]), "verifier": "none"},
            "critic": free,
        },
    }


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--seeds", {"type": int, "nargs": "+", "default": [1, 2, 3]}),
        ("--steps", {"type": int, "default": 120, "help": "updates of each PPO run"}),
        ("--keep", {"type": Path, "help": "a folder for the runs"}),
    )
    quick = arguments.quick
    seeds = arguments.seeds[:1] if quick else arguments.seeds
    steps = 4 if quick else arguments.steps
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.keep or Path(temporary)
        for seed in seeds:
            with contextlib.redirect_stdout(sys.stderr):
                rows += measure(seed, home / f"seed-{seed}", steps, quick)
    for row in rows:
        print({k: v for k, v in row.items() if k != "curve"})
    first = [row for row in rows if row["seed"] == seeds[0]]
    svg = two_curves({row["name"]: row["curve"] for row in first})
    record("hacking", value_of(rows, seeds), GOAL, rows)
    if not quick:
        write_atomically(ROOT / "docs/hacking.svg", svg)


def measure(seed: int, folder: Path, steps: int, quick: bool) -> list[dict[str, Any]]:
    """The four runs of one seed."""
    changes = SMOKE if quick else {}
    runs = train_all(folder, seed, changes, only=("sft", "reward"))
    runs["blind"] = folder / "blind"
    if not finished(runs["blind"]):
        short = {"train": {"steps": 8, "eval_every": 8}} if quick else {}
        values = merge(read_recipe("reward", seed, changes), merge(STYLE_ONLY, short))
        values["parent"] = str(runs["sft"])
        reward(build(RewardRecipe, with_parent(values)), runs["blind"])
    rows = []
    for number, (name, change) in enumerate(rewards_of(runs).items()):
        run = folder / f"hacking-{number}"
        if not finished(run):
            every = max(1, steps // 6)
            values = merge(read_recipe("ppo", seed, changes), change)
            values = merge(values, {"train": {"steps": steps, "eval_every": every}})
            values["parent"] = str(runs["sft"])
            ppo(build(PPORecipe, with_parent(values)), run)
        rows.append({"seed": seed, "name": name} | curve_of(run))
        print(f"seed {seed}, {name}: right {rows[-1]['accuracy_last']:.3f}", flush=True)
    return rows


def curve_of(folder: Path) -> dict[str, Any]:
    """Score of the reward model and share of right answers, against steps."""
    rows = read_rows(Run(folder).metrics)
    paid = [(row["step"], row["reward_model"]) for row in rows if "reward_model" in row]
    right = [row for row in rows if "sampled_accuracy" in row]
    steps = [row["step"] for row in right]
    curve = {
        "steps": steps,
        "reward": [
            [value for s, value in paid if s <= max(step, paid[0][0])][-1]
            for step in steps
        ],
        "accuracy": [row["sampled_accuracy"] for row in right],
        "gold": [row["sampled_gold"] for row in right],
    }
    return {
        "reward_first": paid[0][1],
        "reward_last": paid[-1][1],
        "accuracy_last": curve["accuracy"][-1],
        "gold_last": curve["gold"][-1],
        "curve": curve,
    }


def value_of(rows: list[dict[str, Any]], seeds: list[int]) -> float:
    last = {(row["seed"], row["name"]): row["accuracy_last"] for row in rows}
    return median([last[seed, "better"] - last[seed, "blind"] for seed in seeds])


if __name__ == "__main__":
    main()
