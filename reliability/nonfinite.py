"""Row 7: not a number, in the loss, in one gradient, in one layer, on one rank.

A training of fifty steps is hit at a step drawn beforehand. Promised is: the weights
and the optimizer's state after that step are those from before it, bit for bit; with
"stop" the run ends there, with "skip" after three in a row; a run that was resumed from
any snapshot before meets and skips the same step and ends the same; and no snapshot
holds a number that is not finite. Where there are two ranks, both skip.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from folio.objectives.next_token import next_token
from folio.runtime import init_distributed
from folio.training.learner import Learner
from folio.training.nonfinite import NonFiniteError
from folio.training.snapshot import (
    newest_snapshot,
    optimizer_tensors,
    restore,
    save_snapshot,
)
from reliability.row import Row, Tally
from reliability.subject import (
    differences,
    instant_disk,
    replaced,
    silent,
    small_learner,
    small_stream,
)

STEPS = 50
VALUES = (float("nan"), float("inf"), float("-inf"))
PLACES = ("loss", "gradient", "layer")
Objective = Callable[..., Any]


def everything(learner: Learner) -> dict[str, Tensor]:
    """Copies of weights and optimizer state by name."""
    weights = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    state = optimizer_tensors(learner.optimizer).items()
    return weights | {name: tensor.clone() for name, tensor in state}


def hit(learner: Learner, steps: set[int], place: str, value: float) -> Objective:
    """An objective that goes wrong at these steps, at that place."""
    layer = learner.model.blocks[0].mlp

    def objective(model: Any, batch: Any) -> Any:
        if learner.step not in steps:
            return next_token(model, batch)
        with spoiled(layer, place, value):
            loss, metrics = next_token(model, batch)
        return (loss * value if place == "loss" else loss), metrics

    return objective


@contextlib.contextmanager
def spoiled(layer: Any, place: str, value: float) -> Iterator[None]:
    """One number of the layer's output, or of its gradient, is `value`."""

    def put(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    def hook(module: Any, inputs: Any, output: Tensor) -> Tensor | None:
        if place == "layer":
            return put(output)
        if place == "gradient" and output.requires_grad:
            output.register_hook(put)
        return None

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


# ---- one rank ------------------------------------------------------------------------


def work(home: Path, seed: int, steps: list[int], ranks: int = 1) -> Tally:
    """Each place, value and policy at each of `steps`."""
    if ranks > 1:
        return two_ranks(home, steps)
    tally, chance = Tally(), random.Random(seed)
    with instant_disk():
        for step in steps:
            for place in PLACES:
                value = chance.choice(VALUES)
                where = f"seed {seed}, step {step}, {place} {value}"
                tally.note(f"{where}, skip", skips(home, step, place, value), place)
                tally.note(f"{where}, stop", stops(step, place, value, 1), place)
                tally.note(f"{where}, three", stops(step, place, value, 3), place)
    return tally


def skips(home: Path, step: int, place: str, value: float) -> str | None:
    """Skip one step; then live the same again from a snapshot before it."""
    learner, stream = small_learner(on_nonfinite="skip"), small_stream()
    objective = hit(learner, {step}, place, value)
    saved_at = random.Random(step).randrange(step + 1)
    problem = None
    while learner.step < STEPS:
        if learner.step == saved_at:
            save_snapshot(home / "s", learner, {"stream": stream.state_dict()})
        before = everything(learner) if learner.step == step else {}
        learner.update([next(stream)], objective)
        if before and differences(everything(learner), before):
            problem = problem or "the bad step has changed the weights"
    ended = everything(learner)
    if not all(bool(t.isfinite().all()) for t in ended.values()):
        problem = problem or "the last weights are not finite"
    problem = problem or _lived_again(home / "s", step, place, value, ended)
    shutil.rmtree(home / "s")
    return problem


def _lived_again(
    folder: Path, step: int, place: str, value: float, ended: dict[str, Tensor]
) -> str | None:
    learner, stream = small_learner(on_nonfinite="skip"), small_stream()
    snapshot = newest_snapshot(folder, silent)
    tensors = (*snapshot.model.values(), *snapshot.optimizer.values())
    if not all(bool(t.isfinite().all()) for t in tensors):
        return "a snapshot is not finite"
    restore(snapshot, learner)
    stream.load_state_dict(snapshot.state["stream"])
    objective = hit(learner, {step}, place, value)
    while learner.step < STEPS:
        learner.update([next(stream)], objective)
    wrong = differences(everything(learner), ended)
    return f"resumed, it ends with another {wrong[0]}" if wrong else None


def stops(step: int, place: str, value: float, strikes: int) -> str | None:
    """Does it stop at the first strike, or with "skip" at the third, untouched?"""
    policy = "stop" if strikes == 1 else "skip"
    learner, stream = small_learner(on_nonfinite=policy), small_stream()
    objective = hit(learner, set(range(step, step + strikes)), place, value)
    before: dict[str, Tensor] = {}
    try:
        while learner.step < STEPS + strikes:
            if learner.step == step:
                before = everything(learner)
            learner.update([next(stream)], objective)
    except NonFiniteError as error:
        if learner.step != step + strikes - 1:
            return f"stopped at step {learner.step}: {error}"
        wrong = differences(everything(learner), before)
        return f"it has changed {wrong[:2]}" if wrong else None
    return "it did not stop"


# ---- two ranks -----------------------------------------------------------------------


def two_ranks(home: Path, steps: list[int]) -> Tally:
    """Two processes that train together; one of them is hit, in turn."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (port, str(home), json.dumps(steps))
    torch.multiprocessing.spawn(one_of_two, arguments, nprocs=2)
    one, other = (json.loads((home / f"{r}.json").read_text()) for r in (0, 1))
    tally = Tally()
    for step in steps:
        mine, theirs = one[str(step)], other[str(step)]
        problem = mine["problem"] or theirs["problem"]
        if mine["weights"] != theirs["weights"]:
            problem = problem or "the ranks have other weights afterwards"
        tally.note(f"two ranks, step {step}", problem, "one rank of two")
    return tally


def one_of_two(rank: int, port: int, home: str, steps: str) -> None:
    """Train as one of two; write down what each bad step has done."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    init_distributed()
    bad, found = json.loads(steps), {}
    mine = {step for number, step in enumerate(bad) if number % 2 == rank}
    learner = small_learner(on_nonfinite="skip")
    stream = small_stream(batch=1, rank=rank, world=2)
    objective = hit(learner, mine, "loss", float("nan"))
    while learner.step <= max(bad):
        step, before = learner.step, everything(learner)
        learner.update([next(stream)], objective)
        if step in bad:
            changed = differences(everything(learner), before)
            problem = f"rank {rank} has changed {changed[:1]}" if changed else None
            weights = [t.double().sum().item() for t in before.values()]
            found[step] = {"problem": problem, "weights": weights}
    (Path(home) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """The optimizer steps whatever the numbers are."""
    with replaced(Learner, "_finite", lambda *arguments: True):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Every step of fifty, and fifty steps of two ranks; quick: one step."""
    if quick:
        return {"0": {"seed": 0, "steps": [17]}}
    alone = {
        f"{first}": {"seed": first, "steps": list(range(first, first + 10))}
        for first in range(0, STEPS, 10)
    }
    every_other = list(range(0, 2 * STEPS, 2))  # three in a row would end it
    return alone | {"two ranks": {"seed": 0, "steps": every_other, "ranks": 2}}


ROW = Row(
    7,
    "nonfinite",
    "what is not finite stops or is skipped before the optimizer steps, on all ranks "
    "alike, and is never saved",
    parts,
    work,
    "lets the optimizer step without a check",
    broken,
)
