"""The whole path in minutes, on text that needs no download: from nothing to GRPO."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from folio.config import build, merge, read_toml
from folio.data import tales
from folio.data.shards import open_shards
from folio.evals.copying import copy_accuracy
from folio.evals.ngram import KneserNey
from folio.files import write_atomically
from folio.model.decoder import Decoder
from folio.stages.chat import chat
from folio.stages.dpo import dpo
from folio.stages.gains import Gains, judge_runs
from folio.stages.parent import with_parent
from folio.stages.prepare import shard_folder
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe, StageRecipe
from folio.stages.reward import reward
from folio.stages.rl import grpo, ppo
from folio.stages.samples import Written, embedded_prompts, show_samples
from folio.stages.sft import sft
from folio.stages.tuning import (
    DPORecipe,
    GRPORecipe,
    PPORecipe,
    RewardRecipe,
    SFTRecipe,
)
from folio.text.tokenizer import Tokenizer
from folio.training.progress import duration
from folio.training.run import Run
from folio.viz.alignment import write_gains
from folio.viz.report import write_report

PROBES = 600
Changes = Mapping[str, dict[str, Any]]  # tables laid over recipes, by stage
PLAIN: Changes = {}
TUNED = {  # in this order; all but the first begin with the fine-tuned model
    "sft": (SFTRecipe, sft),
    "reward": (RewardRecipe, reward),
    "dpo": (DPORecipe, dpo),
    "ppo": (PPORecipe, ppo),
    "grpo": (GRPORecipe, grpo),
}
SHORT = {"eval_every": 1000, "save_every": 0}
SMOKE: Changes = {  # far too little of everything
    "pretrain": {
        "data": {"megabytes": 0.6},
        "tokenizer": {"vocab_size": 1024},
        "optim": {"warmup": 10},
        "train": {"steps": 80, **SHORT},
        "sample": {"every": 40, "max_new_tokens": 40},
    },
    "sft": {"train": {"steps": 80, **SHORT}, "answers": {"prompts": 20}},
    "reward": {
        "data": {"examples": 200, "sampled": 60, "val_examples": 60},
        "train": {"steps": 8, "batch": 16, **SHORT},
    },
    "dpo": {
        "data": {"examples": 100, "sampled": 60, "val_examples": 30},
        "train": {"steps": 8, "batch": 16, **SHORT},
        "answers": {"prompts": 20},
    },
    "ppo": {
        "rollout": {"prompts": 32, "max_new_tokens": 24},
        "train": {"steps": 4, **SHORT},
        "answers": {"prompts": 20},
    },
    "grpo": {
        "rollout": {"prompts": 8, "group": 4, "max_new_tokens": 24},
        "train": {"steps": 3, **SHORT},
        "answers": {"prompts": 20},
    },
}


def demo(folder: Path | None, *, smoke: bool, seed: int) -> Gains:
    """`folio demo`: every stage, what each has gained, and what each answers."""
    start = time.perf_counter()
    folder = folder or _free_folder(Path("runs"), "demo-smoke" if smoke else "demo")
    runs = train_all(folder, seed, SMOKE if smoke else PLAIN)
    policies = {name: path for name, path in runs.items() if name != "reward"}
    gains = judge_runs(policies, prompts=40 if smoke else 300, samples=2)
    print("\n" + gains.table())
    text = json.dumps(gains.to_dict(), indent=1)
    write_atomically(folder / "gains.json", text + "\n")
    print()
    asked = embedded_prompts(seed, 5)
    said = show_samples(list(policies.values()), asked, temperature=0.7)
    page = write_gains(folder, answers=as_answers(said))
    print(f"\nall of it took {duration(time.perf_counter() - start)}")
    print(f"page   {page}")
    last = runs["grpo"]
    print(f"more   folio chat {last}    folio eval {last} answers")
    if sys.stdin.isatty() and not smoke:
        talk(last)
    return gains


def as_answers(said: list[list[Written]]) -> list[dict[str, Any]]:
    """What each run said to each prompt, for the page."""
    return [
        {
            "prompt": row[0].prompt,
            "answers": {
                each.run: {"greedy": each.greedy.text, "sampled": each.sampled.text}
                for each in row
            },
        }
        for row in said
    ]


def talk(folder: Path) -> None:
    """Ask the best of them yourself; its world is small, so the answers are short."""
    choices = dict.fromkeys(("top_k", "top_p", "min_p"))
    chat(
        argparse.Namespace(
            run=folder,
            system="",
            max_new_tokens=48,
            temperature=0.7,
            repetition_penalty=1.0,
            seed=0,
            device="auto",
            **choices,
        )
    )


def train_all(
    folder: Path,
    seed: int,
    changes: Changes = PLAIN,
    only: tuple[str, ...] = tuple(TUNED),
) -> dict[str, Path]:
    """Each stage's run by its name, under `folder`; finished ones are kept.

    changes: tables laid over the demo's, by stage.
    """
    runs = {"pretrain": folder / "pretrain"}
    heading("pretrain")
    if not finished(runs["pretrain"]):
        first_stage(runs["pretrain"], seed, changes)
    for stage in only:
        heading(stage)
        runs[stage] = folder / stage
        if not finished(runs[stage]):
            recipe = tuned_recipe(stage, runs, seed, changes)
            begun = Run(runs[stage]).recipe.is_file()
            TUNED[stage][1](recipe, runs[stage], resume=begun)
    return runs


def heading(stage: str) -> None:
    print(f"\n== {stage} " + "=" * (60 - len(stage)), flush=True)


def finished(folder: Path) -> bool:
    return Run(folder).read_info().get("status") == "finished"


# ---- the stages ----------------------------------------------------------------------


def read_recipe(stage: str, seed: int, changes: Changes) -> dict[str, Any]:
    """The demo's tables for a stage."""
    with as_file(files("folio.stages") / "demo_recipes" / f"{stage}.toml") as path:
        values = merge(read_toml(path), changes.get(stage, {}))
    return merge(values, {"seed": seed})


def demo_recipe(*, smoke: bool, seed: int) -> PretrainRecipe:
    """What the demo pretrains; `smoke` is the same, only far too short."""
    values = read_recipe("pretrain", seed, SMOKE if smoke else PLAIN)
    return build(PretrainRecipe, values)


def tuned_recipe(
    stage: str, runs: Mapping[str, Path], seed: int, changes: Changes = PLAIN
) -> StageRecipe:
    """What the demo makes of a finished run; "reward" stands for its reward model."""
    values = read_recipe(stage, seed, changes)
    values["parent"] = str(runs["pretrain" if stage == "sft" else "sft"])
    if stage in ("ppo", "grpo") and values["reward"].get("model"):
        values = merge(values, {"reward": {"model": str(runs["reward"])}})
    return build(TUNED[stage][0], with_parent(values))


def first_stage(folder: Path, seed: int, changes: Changes) -> Run:
    """Pretraining, with the copy probe beside the loss, and n-grams to compare with."""
    recipe = build(PretrainRecipe, read_recipe("pretrain", seed, changes))
    probes = tales.copy_probes(0, PROBES // 10 if changes else PROBES)

    def copying(model: Decoder, tokenizer: Tokenizer) -> dict[str, float]:
        return copy_accuracy(model, tokenizer, probes)

    run = pretrain(recipe, folder, also_measure=copying)
    table = results(recipe, run)
    write_atomically(run.folder / "results.json", json.dumps(table, indent=1) + "\n")
    write_report(run.folder)  # again, with the table
    print_table(table)
    return run


def results(recipe: PretrainRecipe, run: Run) -> dict:
    """The model beside n-gram models that have counted the very same tokens."""
    tokenizer = Tokenizer.load(run.model)
    folder = shard_folder(recipe, run)
    train = open_shards(folder, "train", tokenizer)
    held_out = open_shards(folder, "validation", tokenizer)
    rows = []
    for order in (2, 3, 4, 5):
        counted = KneserNey(train[:], tokenizer.vocab_size, order)
        bits = counted.bits_per_byte(held_out[:], held_out.text_bytes)
        rows.append([f"{order}-gram, Kneser-Ney", bits])
    best = rows[-1][1]
    ours = run.read_info()["results"]["val_bits_per_byte"]
    rows.append([f"this model, {recipe.train.steps:,} steps", ours])
    return {
        "title": "Bits per byte of held-out tales (fewer are better)",
        "columns": ["model", "bits per byte", "against the 5-gram"],
        "rows": [
            [name, round(bits, 4), f"{100 * (bits / best - 1):+.1f} %"]
            for name, bits in rows
        ],
    }


def print_table(table: dict) -> None:
    """The same table for a terminal."""
    print(f"\n{table['title']}")
    for name, bits, against in table["rows"]:
        print(f"  {name:28}{bits:>8.4f}   {against:>8}")


def _free_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ...: the first that isn't there."""
    candidates = _numbered(parent / name)
    return next(folder for folder in candidates if not folder.exists())


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}-{number}")
        number += 1
