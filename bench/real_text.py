"""Post-training on real text: instructions, preferences, solutions, sums in words.

A small model is pretrained on --text, fine-tuned on --instructions (Alpaca's form), and
goes on to a reward model and DPO on --preferences, each file split 85/10/5 by prompt.
Another reward model learns from --solutions (GSM8K, judged right or wrong), and the
fine-tuned model goes through GRPO on --sums (GSM8K's questions, answers after `####`).

A model of a million weights answers none of the sums, and few instructions well: what
is shown is that the whole way works on people's data, with the baselines that say how
much of it is length. The value is the reward model's accuracy on the pairs of the test
part, less that of a logistic model that sees only lengths.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from folio.config import build, merge, read_toml
from folio.stages.dpo import dpo
from folio.stages.evaluate import evaluate_preference
from folio.stages.parent import with_parent
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.stages.reward import reward
from folio.stages.rl import grpo
from folio.stages.sft import sft
from folio.stages.tuning import DPORecipe, GRPORecipe, RewardRecipe, SFTRecipe
from folio.training.log import is_evaluation, read_rows
from folio.training.run import Run
from record import ROOT, parse_arguments, record

GOAL = 0.0
STAGES = {
    "sft": (SFTRecipe, sft),
    "reward": (RewardRecipe, reward),
    "dpo": (DPORecipe, dpo),
    "grpo": (GRPORecipe, grpo),
}
BASE = {
    "tokenizer": {"kind": "bpe", "vocab_size": 4096},
    "model": {"max_seq_len": 512, "d_model": 128, "n_layers": 4, "n_heads": 4},
    "optim": {"lr": 3e-3, "schedule": "linear", "floor": 0.02, "beta2": 0.98},
    "train": {"steps": 1500, "batch": 8, "length": 256, "save_every": 0},
    "sample": {"every": 0},
}
QUICK = {"steps": 4, "eval_every": 4, "save_every": 0}
FINE = {"optim": {"lr": 2e-3}, "train": {"steps": 300}}  # a model of this size


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--text", {"required": True, "help": "a text file"}),
        ("--instructions", {"required": True, "help": "instruction, input, output"}),
        ("--preferences", {"required": True, "help": "with chosen and rejected"}),
        ("--solutions", {"required": True, "help": "GSM8K's, judged"}),
        ("--sums", {"required": True, "help": "GSM8K's questions and answers"}),
        ("--keep", {"type": Path, "help": "a folder for the runs"}),
    )
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.keep or Path(temporary)
        with contextlib.redirect_stdout(sys.stderr):
            rows = go(arguments, home)
    for row in rows:
        print(row)
    judged = next(row for row in rows if row["stage"] == "reward")
    value = judged["accuracy"] - max(judged["length_only"], 0.5)
    record("real_text", value, GOAL, rows)


def go(arguments, home: Path) -> list[dict[str, Any]]:
    """Every stage, one row each: what was measured first and last."""
    quick = arguments.quick
    base = home / "base"
    values = merge(BASE, {"data": {"path": arguments.text}})
    if quick:
        values = merge(values, {"train": QUICK})
    if not done(base):
        pretrain(build(PretrainRecipe, values), base)
    rows = [row_of("pretrain", base)]
    tuned = home / "sft"
    run_stage("sft", base, tuned, quick, data={"path": arguments.instructions}, **FINE)
    rows.append(row_of("sft", tuned))
    pairs = {"path": arguments.preferences}
    run_stage("reward", tuned, home / "reward", quick, data=pairs)
    rows.append(reward_row("reward", home / "reward", arguments.preferences))
    run_stage("dpo", tuned, home / "dpo", quick, data=pairs)
    rows.append(row_of("dpo", home / "dpo"))
    solutions = {"path": arguments.solutions}
    run_stage("reward", tuned, home / "verifier", quick, data=solutions)
    rows.append(reward_row("verifier", home / "verifier", arguments.solutions))
    sums = {"path": arguments.sums, "length": 384}
    few = {"prompts": 4, "group": 4, "max_new_tokens": 96}
    more = {"rollout": few, "train": {"steps": 4 if quick else 20}}
    run_stage("grpo", tuned, home / "grpo", quick, data=sums, **more)
    rows.append(row_of("grpo", home / "grpo"))
    return rows


def run_stage(stage: str, parent: Path, folder: Path, quick: bool, **changes) -> None:
    """The stage by the recipe that users are given, with these changes."""
    values = merge(read_toml(ROOT / f"recipes/tiny/{stage}.toml"), changes)
    values["parent"] = str(parent)
    if quick:
        values = merge(values, {"train": QUICK})
        if "answers" in values:
            values = merge(values, {"answers": {"prompts": 4, "max_new_tokens": 8}})
    if not done(folder):
        schema, function = STAGES[stage]
        function(build(schema, with_parent(values)), folder)


def done(folder: Path) -> bool:
    return Run(folder).read_info().get("status") == "finished"


def row_of(stage: str, folder: Path) -> dict[str, Any]:
    """The first and the last held-out measures, and the last of training."""
    rows = read_rows(Run(folder).metrics)
    measured = [row for row in rows if is_evaluation(row)]
    trained = [row for row in rows if not is_evaluation(row)]
    info = Run(folder).read_info()
    return {
        "stage": stage,
        "data": info["data"] | {"name": Path(info["data"]["name"]).name},
        "parameters": info["parameters"]["total"],
        "seconds": info["results"]["seconds"],
        "first": plain(measured[0]),
        "last": plain(measured[-1]),
        "training": plain(trained[-1]),
    }


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) for k, v in row.items() if isinstance(v, (int, float))}


def reward_row(stage: str, folder: Path, path: str) -> dict[str, Any]:
    """Accuracy on the file's test part, beside judges that see only lengths."""
    found = evaluate_preference(folder, path).pairs
    judges = {name: by["all"].mean for name, by in found.baselines.items()}
    accuracy = found.accuracy["all"]
    return row_of(stage, folder) | {
        "accuracy": accuracy.mean,
        "interval": [accuracy.low, accuracy.high],
        "pairs": accuracy.count,
        "length_only": judges["length fitted"],
        "judges": judges,
    }


if __name__ == "__main__":
    main()
