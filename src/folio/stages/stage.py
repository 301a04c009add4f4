"""One run of any stage, from an empty folder to a report.

A stage says how its folder is prepared (tokenizer, data) and what it is assembled of;
locks, logs, signals, snapshots and resuming are the same for all, and are here.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from folio.config import UserError, read_toml
from folio.files import exclusive, write_atomically
from folio.model.config import ModelConfig
from folio.model.count import count_parameters, flops_per_token
from folio.model.scorer import Scorer
from folio.model.store import save_model
from folio.runtime import (
    data_world,
    first_alone,
    init_distributed,
    lost_ranks_told,
    rank,
    seed_everything,
    share_ranks,
    wait_for_first,
    world_size,
)
from folio.stages.assemble import Parts, Say, resume_from_newest
from folio.stages.memory import told_if_memory_ends
from folio.stages.parent import note_parent
from folio.stages.recipe import StageRecipe
from folio.stages.watch import (
    evaluation_hook,
    looking_hook,
    make_sinks,
    make_trackers,
    saving_hook,
    tracking_hooks,
)
from folio.text.tokenizer import Tokenizer
from folio.training import hooks
from folio.training.log import Sink, is_evaluation, read_rows
from folio.training.loop import train
from folio.training.run import (
    Clock,
    Run,
    finish_run,
    open_run,
    rewind,
    undone_if_refused,
)
from folio.training.signals import Interrupted, stop_on_signal
from folio.training.trackers import Tracker
from folio.viz.report import write_report

Prepare = Callable[[Run, bool, Say], None]  # (run, resume, say)
Assemble = Callable[[Run, Tokenizer, Say], Parts]


def run_stage(
    recipe: StageRecipe,
    folder: Path,
    prepare: Prepare,
    assemble: Assemble,
    *,
    resume: bool = False,
    say: Say = print,
) -> Run:
    """Train what the recipe describes; everything it leaves behind lies in `folder`.

    With `resume`, an interrupted run goes on bit for bit where its newest whole
    snapshot ends.
    """
    init_distributed(recipe.train.device)
    share_ranks(recipe.parallel.tensor)
    with lost_ranks_told():
        if not rank():
            return _lead(recipe, folder, prepare, assemble, resume, say)
        wait_for_first()  # what touches the disk is done by it
        follow(open_parts(recipe, folder, assemble, resume, _silent))
        return Run(folder)


def _lead(
    recipe: StageRecipe,
    folder: Path,
    prepare: Prepare,
    assemble: Assemble,
    resume: bool,
    say: Say,
) -> Run:
    """What the first rank does, or the only one."""
    with first_alone() as go_on, exclusive(folder):
        with undone_if_refused(folder):
            begin(recipe, folder, prepare, resume, say)
            go_on()
            parts = open_parts(recipe, folder, assemble, resume, say)
            describe(parts, say)
            trackers = make_trackers(recipe, parts.run, parts.learner.step)
            sinks = make_sinks(recipe, parts.run, trackers)
        try:
            learn(parts, sinks, trackers)
        except Interrupted:
            say(f"report {write_report(folder)}")
            raise
        say(f"report {write_report(folder)}")
        return parts.run


def begin(
    recipe: StageRecipe, folder: Path, prepare: Prepare, resume: bool, say: Say
) -> None:
    """Open the run's folder, and put its tokenizer and data there."""
    rows = rows_per_update(recipe)
    if resume:
        check_rows(Run(folder), rows)
    run = open_run(folder, recipe, resume=resume, command=_command(), say=say)
    say(f"run {folder}")
    run.update_info(stage=type(recipe).__name__.removesuffix("Recipe").lower())
    note_parent(run, recipe.parent, lora=recipe.lora is not None)
    run.update_info(rows_per_update=rows, processes=world_size())
    prepare(run, resume, say)


def rows_per_update(recipe: StageRecipe) -> int | None:
    """Rows that all ranks together learn from at once; rollouts have a size anyway."""
    if recipe.samples_itself:
        return None
    return recipe.train.batch * recipe.train.accumulate * data_world()


def check_rows(run: Run, rows: int | None) -> None:
    """UserError if updates would be of another size than before: another curve."""
    if rows is None or not run.recipe.is_file():
        return
    train = read_toml(run.recipe)["train"]
    alone = train["batch"] * train["accumulate"]  # runs that don't say had one process
    before = run.read_info().get("rows_per_update", alone)
    if before != rows:
        raise UserError(
            f"an update of {run.folder} has {before} rows, and would now have {rows} = "
            f"train.batch x train.accumulate x {data_world()}; change one of them"
        )


def open_parts(
    recipe: StageRecipe, folder: Path, assemble: Assemble, resume: bool, say: Say
) -> Parts:
    """Build what the recipe describes; with `resume`, as the newest snapshot has it."""
    run = Run(folder)
    tokenizer = Tokenizer.load(run.model)
    seed_everything(recipe.seed)
    parts = assemble(run, tokenizer, say)
    if resume:
        resume_from_newest(parts, say)
    return parts


def describe(parts: Parts, say: Say) -> None:
    """Write the facts of the run to run.json, and say the main ones."""
    run, recipe, model = parts.run, parts.recipe, parts.learner.model
    rewind(run, parts.learner.step)
    counts = count_parameters(shape_of(parts.kept))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    run.update_info(
        parameters=counts,
        trained_parameters=trained,
        flops_per_token=flops_per_token(shape_of(parts.kept), recipe.length),
        tokenizer={
            "kind": parts.tokenizer.name,
            "vocab_size": parts.tokenizer.vocab_size,
            "fingerprint": parts.tokenizer.fingerprint,
        },
        **parts.facts,
    )
    for name, figure in parts.figures.items():
        write_atomically(run.figures / f"{name}.json", json.dumps(figure))
    if recipe.lora is not None:
        say(f"LoRA of rank {recipe.lora.rank}: {trained:,} parameters are trained")
    data = "".join(
        f"; {name.replace('_', ' ')} {value:,}"
        for name, value in parts.facts.get("data", {}).items()
        if isinstance(value, int) and not name.endswith("bytes")
    )
    say(
        f"{counts['total']:,} parameters{data}; vocabulary "
        f"{parts.tokenizer.vocab_size:,}; {parts.learner.device}, "
        f"{recipe.train.precision}"
    )


def shape_of(model: nn.Module) -> ModelConfig:
    """What the transformer in a model is made of."""
    return model.shape if isinstance(model, Scorer) else model.config


def learn(
    parts: Parts, sinks: Sequence[Sink], trackers: Sequence[Tracker] = ()
) -> None:
    """Train to the end, or until asked to stop.

    `trackers`: those of the sinks that show more than metrics.
    """
    clock, steps = Clock(parts.progress), parts.recipe.train.steps
    watch = [*parts.watch, *tracking_hooks(trackers, parts.run)]
    try:
        with stop_on_signal() as stop:
            log = hooks.LogMetrics(
                sinks, clock, parts.recipe.log.every, steps, parts.unit
            )
            evaluation = evaluation_hook(parts, sinks, clock)
            if parts.learner.step == 0:
                before = evaluation if parts.recipe.parent else []
                for hook in [*before, *watch]:
                    hook(parts.learner, {})
            hooks.look_away(parts.learner, {})
            beside = [
                *parts.first,
                log,
                hooks.agree(stop),
                looking_hook(parts.recipe),
                *evaluation,
                *watch,
                saving_hook(parts, clock, stop),
                hooks.look_away,
                log.resume_clock,
            ]
            _train(parts, beside)
    except BaseException as error:
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        finish_run(parts.run, status, parts.learner.step)
        raise
    finally:
        for sink in sinks:
            sink.close()
    _finish(parts, clock)


def follow(parts: Parts) -> None:
    """What ranks other than the first do: train, and stop when any is asked to.

    Where each has a part of the weights they save, too.
    """
    with stop_on_signal() as stop:
        together = [hooks.agree(stop), looking_hook(parts.recipe)]
        if parts.learner.ranks.split:
            together.append(saving_hook(parts, Clock(parts.progress), stop))
        leave = hooks.leave(stop, parts.may_save)
        _train(parts, [*parts.first, *together, leave])


def _train(parts: Parts, beside: list) -> None:
    recipe = parts.recipe
    with told_if_memory_ends(recipe, shape_of(parts.kept)):
        train(
            parts.learner,
            parts.stream,
            parts.objective,
            steps=recipe.train.steps,
            accumulate=recipe.train.accumulate,
            hooks=beside,
        )
    parts.learner.ranks.gather()  # its final weights may be what is kept


def _finish(parts: Parts, clock: Clock) -> None:
    """Keep the final weights if none were chosen, and write the results down."""
    run, progress = parts.run, parts.progress
    if progress.best_step is None:
        save_model(parts.kept, run.model)
    finish_run(
        run,
        "finished",
        parts.learner.step,
        results={
            **measured(run, parts),
            "best_step": progress.best_step,
            "seconds": round(clock.read(), 2),
            parts.unit: parts.learner.denominator,
        },
    )


def measured(run: Run, parts: Parts) -> dict[str, Any]:
    """What was measured of the weights that are kept; the last loss beside the best."""
    rows = [row for row in read_rows(run.metrics) if is_evaluation(row)]
    if not rows:
        return {}
    kept = [row for row in rows if row["step"] == parts.progress.best_step]
    apart = ("step", "seconds", parts.unit)
    row = (kept or rows)[-1]
    found = {name: value for name, value in row.items() if name not in apart}
    if "val_loss" in rows[-1]:
        found["final_val_loss"] = rows[-1]["val_loss"]
    return found


def _command() -> str:
    """The command that made the run, as one would type it again."""
    return " ".join(["folio", *(shlex.quote(part) for part in sys.argv[1:])])


def _silent(text: str) -> None:
    """What ranks other than the first say."""
