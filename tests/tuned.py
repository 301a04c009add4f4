"""A tiny parent and tiny recipes of everything that comes after pretraining."""

from __future__ import annotations

import json
from pathlib import Path

from folio.config import build, merge
from folio.data.tales import STYLES
from folio.stages.distill import distill
from folio.stages.dpo import dpo
from folio.stages.parent import with_parent
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.stages.reward import reward
from folio.stages.rl import grpo, ppo
from folio.stages.sft import sft
from folio.stages.tuning import (
    DistillRecipe,
    DPORecipe,
    GRPORecipe,
    PPORecipe,
    RewardRecipe,
    SFTRecipe,
)
from folio.training.run import Run

STAGES = {
    "sft": (SFTRecipe, sft),
    "reward": (RewardRecipe, reward),
    "dpo": (DPORecipe, dpo),
    "ppo": (PPORecipe, ppo),
    "grpo": (GRPORecipe, grpo),
    "distill": (DistillRecipe, distill),
}
COMMON = {
    "optim": {"lr": 1e-3, "warmup": 1},
    "train": {
        "steps": 4,
        "batch": 2,
        "eval_every": 2,
        "save_every": 2,
        "device": "cpu",
    },
    "log": {"every": 1},
    "answers": {"prompts": 4, "max_new_tokens": 6},
}
EMBEDDED = {"data": {"tasks": ["sort", "largest"]}}
OWN = {
    "sft": {"data": {"val_examples": 4}},
    "reward": {"data": {"val_examples": 6}},
    "dpo": {"data": {"examples": 12, "val_examples": 6}},
    "ppo": {"rollout": {"prompts": 4, "max_new_tokens": 6}},
    "grpo": {"rollout": {"prompts": 2, "group": 2, "max_new_tokens": 6}},
    "distill": {"data": {"val_examples": 4}},
}


def make_parent(folder: Path, name: str = "parent", seed: int = 1) -> Run:
    """A model of some thousand weights, which has seen all that is asked of it."""
    text = folder / "text.txt"
    said = "".join(f"Sort 7 3 9, please. {style.format('3 7 9')} " for style in STYLES)
    text.write_text(said * 60, encoding="utf-8")
    recipe = {
        "seed": seed,
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "data": {"path": str(text)},
        "model": {"max_seq_len": 192, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "optim": {"lr": 1e-2, "warmup": 2},
        "train": {"steps": 6, "batch": 2, "eval_every": 6, "device": "cpu"},
        "sample": {"every": 0},
    }
    return pretrain(build(PretrainRecipe, recipe), folder / name, say=silent)


def recipe_of(stage: str, parent: Path, embedded: bool = True, **changes):
    """The recipe of a stage, with tables changed: `train={"steps": 3}`."""
    values = merge(COMMON, EMBEDDED if embedded else {})
    values = merge(merge(values, OWN[stage] if embedded else {}), changes)
    if stage == "distill":
        values.setdefault("teacher", str(parent.with_name("teacher")))
    values["parent"] = str(parent)
    return build(STAGES[stage][0], with_parent(values))


def run_of(stage: str, parent: Path, folder: Path, resume=False, **changes) -> Run:
    """The stage, run."""
    recipe = recipe_of(stage, parent, **changes)
    return STAGES[stage][1](recipe, folder, resume=resume, say=silent)


def rows_of(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def silent(text: str) -> None:
    pass
