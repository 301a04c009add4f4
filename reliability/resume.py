"""Row 4: a run that was interrupted goes on as if it had not been, in every stage.

Each stage is trained whole, with a snapshot after each step. Then, for every snapshot,
a copy of the run that has no newer one is resumed, wherever the generators stand, asked
to stop (SIGTERM) one step later, and compared where it has stopped: weights, optimizer,
generators, loss scaler, position of the data, best so far, and the rows of the logs.
What is equal there, bit for bit, is equal for ever after, since nothing else is carried
on. Besides, one run of each kind is killed three times at random, resumed, and compared
at its end. A run with another number of ranks is not promised to be equal in all bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from folio.config import UserError, build, merge
from folio.data.tales import STYLES
from folio.stages import assemble
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
from folio.training.signals import Interrupted
from folio.training.snapshot import snapshot_paths
from reliability.disk import stopping_at
from reliability.row import Row, Tally
from reliability.subject import (
    TENSORS,
    TIMES,
    differences,
    instant_disk,
    log_rows,
    quietly,
    replaced,
    silent,
)

TASKS = {"tasks": ["sort", "largest"]}
ROLLOUT = {"prompts": 4, "max_new_tokens": 6}
STAGES: dict[str, tuple[type, Any, dict[str, Any]]] = {
    "pretrain": (PretrainRecipe, pretrain, {"sample": {"every": 0}}),
    "sft": (SFTRecipe, sft, {"data": TASKS | {"val_examples": 4}}),
    "reward": (RewardRecipe, reward, {"data": TASKS | {"val_examples": 6}}),
    "dpo": (DPORecipe, dpo, {"data": TASKS | {"examples": 12, "val_examples": 6}}),
    "ppo": (PPORecipe, ppo, {"data": TASKS, "rollout": ROLLOUT}),
    "grpo": (
        GRPORecipe,
        grpo,
        {"data": TASKS, "rollout": {"prompts": 2, "group": 2, "max_new_tokens": 6}},
    ),
    "distill": (DistillRecipe, distill, {"data": TASKS | {"val_examples": 4}}),
}
DROPPING = ("pretrain", "sft", "reward", "dpo", "distill")  # the others refuse dropout


def recipe_of(
    home: Path, stage: str, steps: int, dropout: float, accumulate: int, precision: str
) -> Any:
    """A tiny recipe that saves after every step."""
    schema, _, own = STAGES[stage]
    train = {"steps": steps, "batch": 2, "accumulate": accumulate, "device": "cpu"}
    often = {"eval_every": max(2, steps // 3), "save_every": 1, "keep": 10 * steps}
    values = {
        "optim": {"lr": 1e-3, "warmup": 2},
        "train": train | often | {"precision": precision},
        "log": {"every": 2},
    }
    values = merge(values, own)
    if stage == "pretrain":
        model = _parent_values(home)["model"] | {"dropout": dropout}
        return build(
            schema, merge(_parent_values(home), merge(values, {"model": model}))
        )
    values |= {"parent": str(home / "parent")}
    values |= {"answers": {"prompts": 4, "max_new_tokens": 6}}
    if stage == "distill":
        values["teacher"] = str(home / "teacher")
    values = with_parent(values)
    return build(schema, merge(values, {"model": {"dropout": dropout}}))


def _parent_values(home: Path) -> dict[str, Any]:
    return {
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "data": {"path": str(home / "text.txt")},
        "model": {"max_seq_len": 192, "d_model": 16, "n_layers": 1, "n_heads": 2},
    }


def make_parent(home: Path, name: str, seed: int) -> None:
    """A model of some thousand weights that has seen all that is asked of it."""
    said = "".join(f"Sort 7 3 9, please. {style.format('3 7 9')} " for style in STYLES)
    (home / "text.txt").write_text(said * 60, encoding="utf-8")
    train = {"steps": 6, "batch": 2, "eval_every": 6, "device": "cpu"}
    values = {"seed": seed, "train": train, "sample": {"every": 0}}
    with quietly():
        recipe = build(PretrainRecipe, merge(_parent_values(home), values))
        pretrain(recipe, home / name, say=silent)


def state_at(run: Path, step: int) -> dict[str, Any]:
    """All of a run at `step` that must not depend on whether it was interrupted."""
    last = run / f"snapshots/step-{step:08d}"
    left: dict[str, Any] = {}
    for name in TENSORS:
        left |= {f"{name}:{k}": t for k, t in load((last / name).read_bytes()).items()}
    state = json.loads((last / "state.json").read_text())
    state["progress"].pop("seconds")
    for name in [n for n in state["progress"]["sums"] if n.endswith(TIMES)]:
        state["progress"]["sums"].pop(name)  # speeds wait for the next row, too
    left["state.json"] = state
    for name in ("metrics.jsonl", "samples.jsonl"):
        left[name] = [row for row in log_rows(run / name) if row["step"] <= step]
    return left


def saved_steps(run: Path) -> list[int]:
    paths = snapshot_paths(run / "snapshots")
    return [int(path.name.removeprefix("step-")) for path in paths]


# ---- trials --------------------------------------------------------------------------


def work(home: Path, stage: str, every: int, kills: int, **options: Any) -> Tally:
    """One kind of run: resumed at every `every`-th step, and after chained kills."""
    tally = Tally()
    with instant_disk(), quietly():
        make_parent(home, "parent", seed=1)
        if stage == "distill":
            make_parent(home, "teacher", seed=2)
        recipe = recipe_of(home, stage, **options)
        start = time.perf_counter()
        STAGES[stage][1](recipe, home / "whole", say=silent)
        took = time.perf_counter() - start
        steps = saved_steps(home / "whole")
        for step, following in list(pairwise(steps))[::every]:
            problem = resumed(home, stage, recipe, step, following)
            tally.note(f"{stage} {options}, step {step}", problem, stage)
        if kills:
            problem = killed(home, stage, recipe, kills, took)
            tally.note(f"{stage} {options}, {kills} kills", problem, "chained kills")
    return tally


def resumed(
    home: Path, stage: str, recipe: Any, step: int, following: int
) -> str | None:
    """Go on from `step` to the next that is saved; how that differs, or None."""
    run = home / "part"
    shutil.copytree(home / "whole", run, ignore=_all_snapshots_but(step))
    torch.manual_seed(step)
    try:
        with stopping_at(step + 1):
            STAGES[stage][1](recipe, run, resume=True, say=silent)
        ended = "finished"
    except Interrupted:
        ended = "interrupted"
    except UserError as error:
        return f"could not go on: {error}"
    last = following == saved_steps(home / "whole")[-1]
    problem = None
    if saved_steps(run) != [step, following]:
        problem = f"{ended}, saved at {saved_steps(run)}, not at {following}"
    elif ended != "interrupted" and not last:
        problem = "it did not stop when asked to"
    else:
        whole, part = (state_at(each, following) for each in (home / "whole", run))
        wrong = differences(part, whole)
        problem = f"step {following} differs in {wrong[:3]}" if wrong else None
    shutil.rmtree(run)
    return problem


def _all_snapshots_but(step: int) -> Any:
    def ignore(folder: str, names: list[str]) -> list[str]:
        if Path(folder).name != "snapshots":
            return []
        return [name for name in names if name != f"step-{step:08d}"]

    return ignore


def killed(home: Path, stage: str, recipe: Any, kills: int, took: float) -> str | None:
    """Killed again and again at random, then left alone: how the end differs."""
    run, chance = home / "killed", random.Random(f"{stage}-{recipe}")
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                STAGES[stage][1](recipe, run, resume=True, say=silent)
            os._exit(0)
        time.sleep(chance.uniform(0.05, 0.6 * took))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        STAGES[stage][1](recipe, run, resume=True, say=silent)
    except UserError as error:
        return f"could not go on: {error}"
    last = saved_steps(home / "whole")[-1]
    wrong = differences(state_at(run, last), state_at(home / "whole", last))
    return f"its end differs in {wrong[:3]}" if wrong else None


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """The generators are not set back."""
    real = assemble.restore

    def forgetful(snapshot: Any, learner: Any) -> None:
        generators = torch.get_rng_state()
        real(snapshot, learner)
        torch.set_rng_state(generators)

    with replaced(assemble, "restore", forgetful):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Every stage with and without dropout, accumulation and a loss scaler, at every of
    60 steps; quick: two steps of one kind, which the broken build must fail, too."""
    if quick:
        few = {"steps": 5, "every": 2, "kills": 0, "dropout": 0.1}
        return {"sft": few | {"stage": "sft", "accumulate": 4, "precision": "fp16"}}
    return {
        f"{stage}, dropout {dropout}, accumulate {accumulate}, {precision}": {
            "stage": stage,
            "steps": 60,
            "dropout": dropout,
            "accumulate": accumulate,
            "precision": precision,
            "every": 1,
            "kills": 3,
        }
        for stage in STAGES
        for dropout in ((0.1, 0.0) if stage in DROPPING else (0.0,))
        for accumulate in (1, 4)
        for precision in ("fp32", "fp16")
    }


ROW = Row(
    4,
    "resume",
    "resumed is as never stopped: weights, optimizer, generators, scaler, position and "
    "logs, bit for bit, in every stage",
    parts,
    work,
    "does not set the random generators back",
    broken,
)
