"""Pretraining: assemble the parts that the recipe names, then call `train`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from folio.data.tokens import Tokens
from folio.files import exclusive, write_atomically
from folio.model.count import count_parameters, flops_per_token
from folio.model.store import save_model
from folio.objectives.next_token import next_token
from folio.runtime import init_distributed, rank
from folio.stages.assemble import Parts, Say, assemble
from folio.stages.parent import note_parent
from folio.stages.prepare import prepare_tokenizer, prepare_tokens
from folio.stages.recipe import PretrainRecipe
from folio.stages.watch import (
    Measure,
    evaluation_hook,
    expert_hooks,
    make_sinks,
    saving_hook,
    watching_hooks,
)
from folio.text.tokenizer import Tokenizer
from folio.training import hooks
from folio.training.log import Sink, read_rows
from folio.training.loop import Hook, train
from folio.training.run import (
    Clock,
    Run,
    finish_run,
    open_run,
    rewind,
    undone_if_refused,
)
from folio.training.signals import Interrupted, stop_on_signal
from folio.viz.report import write_report


def pretrain(
    recipe: PretrainRecipe,
    folder: Path,
    *,
    resume: bool = False,
    also_measure: Measure | None = None,
    say: Say = print,
) -> Run:
    """Train a decoder on text; everything it leaves behind lies in `folder`.

    With `resume`, an interrupted run goes on bit for bit where its newest whole
    snapshot ends. What `also_measure` gives is logged with each evaluation.
    """
    init_distributed()
    if rank():  # what touches the disk is done by the first process
        follow(assemble(recipe, folder, resume, _silent))
        return Run(folder)
    with exclusive(folder):
        with undone_if_refused(folder):
            begin(recipe, folder, resume, say)
            parts = assemble(recipe, folder, resume, say)
            describe(parts, say)
            sinks = make_sinks(recipe, parts.run)
        try:
            learn(parts, sinks, also_measure)
        except Interrupted:
            say(f"report {write_report(folder)}")
            raise
        say(f"report {write_report(folder)}")
        return parts.run


def begin(recipe: PretrainRecipe, folder: Path, resume: bool, say: Say) -> None:
    """Open the run's folder, and put its tokenizer and token files there."""
    run = open_run(folder, recipe, resume=resume, command=_command(), say=say)
    say(f"run {folder}")
    note_parent(run, recipe.parent, lora=recipe.lora is not None)
    tokenizer = prepare_tokenizer(recipe, run, resume, say)
    prepare_tokens(recipe, tokenizer, run, say)


def describe(parts: Parts, say: Say) -> None:
    """Write the facts of the run to run.json, and say the main ones."""
    run, recipe, tokenizer = parts.run, parts.recipe, parts.tokenizer
    learner, train_tokens = parts.learner, parts.stream.tokens
    val_tokens = parts.val_tokens
    rewind(run, learner.step)
    counts = count_parameters(learner.model.config)
    trained = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    run.update_info(
        parameters=counts,
        trained_parameters=trained,
        flops_per_token=flops_per_token(learner.model.config, recipe.length),
        tokenizer={
            "kind": tokenizer.name,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        data={
            "name": recipe.data.path or recipe.data.corpus,
            "train_tokens": len(train_tokens),
            "val_tokens": len(val_tokens),
            "train_bytes": train_tokens.text_bytes,
            "val_bytes": val_tokens.text_bytes,
            "fingerprint": train_tokens.fingerprint,
        },
    )
    write_atomically(
        run.figures / "tokens.json", json.dumps(token_figure(tokenizer, val_tokens))
    )
    if recipe.lora is not None:
        say(f"LoRA of rank {recipe.lora.rank}: {trained:,} parameters are trained")
    say(
        f"{counts['total']:,} parameters; {len(train_tokens):,} tokens to train on, "
        f"{len(val_tokens):,} held out; vocabulary {tokenizer.vocab_size:,}; "
        f"{learner.device}, {recipe.train.precision}"
    )


def token_figure(tokenizer: Tokenizer, tokens: Tokens, count: int = 96) -> dict:
    """The beginning of the held-out text, token by token, for the report."""
    ids = [int(i) for i in tokens[: min(count, len(tokens))]]
    special = set(tokenizer.special_tokens.values())
    return {
        "text": tokenizer.decode(ids),
        "tokens": [
            {
                "id": i,
                "text": tokenizer.token_bytes(i).decode("utf-8", "replace"),
                "bytes": len(tokenizer.token_bytes(i)),
                "special": i in special,
            }
            for i in ids
        ],
    }


def learn(parts: Parts, sinks: list[Sink], also_measure: Measure | None) -> None:
    """Train to the end, or until asked to stop."""
    clock = Clock(parts.progress)
    try:
        with stop_on_signal() as stop:
            log = hooks.LogMetrics(
                sinks, clock, parts.recipe.log.every, parts.recipe.train.steps
            )
            watch = watching_hooks(parts)
            if parts.learner.step == 0:
                for hook in watch:
                    hook(parts.learner, {})
            evaluate = evaluation_hook(parts, sinks, clock, also_measure)
            save = saving_hook(parts, clock, stop)
            _train(
                parts,
                [
                    *expert_hooks(parts),
                    log,
                    hooks.agree(stop),
                    evaluate,
                    *watch,
                    save,
                    log.resume_clock,
                ],
            )
    except BaseException as error:
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        finish_run(parts.run, status, parts.learner.step)
        raise
    finally:
        for sink in sinks:
            sink.close()
    _finish(parts, clock)


def follow(parts: Parts) -> None:
    """What ranks other than the first do: train, and stop when any is asked to."""
    with stop_on_signal() as stop:
        _train(parts, [*expert_hooks(parts), hooks.agree(stop), hooks.leave(stop)])


def _train(parts: Parts, beside: list[Hook]) -> None:
    train(
        parts.learner,
        parts.stream,
        next_token,
        steps=parts.recipe.train.steps,
        accumulate=parts.recipe.train.accumulate,
        hooks=beside,
    )


def _finish(parts: Parts, clock: Clock) -> None:
    """Keep the final weights if none were measured, and write the results down."""
    run, learner, progress = parts.run, parts.learner, parts.progress
    if progress.best_step is None:
        save_model(learner.model, run.model)
    rows = [row for row in read_rows(run.metrics) if "val_loss" in row]
    final = rows[-1] if rows else {}
    best = next((row for row in rows if row["step"] == progress.best_step), {})
    finish_run(
        run,
        "finished",
        learner.step,
        results={
            "val_loss": best.get("val_loss"),
            "val_perplexity": best.get("val_perplexity"),
            "val_bits_per_byte": best.get("val_bits_per_byte"),
            "final_val_loss": final.get("val_loss"),
            "best_step": progress.best_step,
            "seconds": round(clock.read(), 2),
            "tokens": learner.denominator,
        },
    )


def _command() -> str:
    """The command that made the run, as one would type it again."""
    return " ".join(["folio", *(shlex.quote(part) for part in sys.argv[1:])])


def _silent(text: str) -> None:
    """What ranks other than the first say."""
