"""Pretraining: assemble the parts that the recipe names, then call `train`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.files import exclusive, write_atomically
from folio.infer.sampling import Sampling
from folio.model.config import ModelConfig
from folio.model.count import count_parameters, flops_per_token
from folio.model.decoder import Decoder
from folio.model.store import save_model
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import make_schedule
from folio.runtime import (
    barrier,
    find_device,
    init_distributed,
    rank,
    seed_everything,
    world_size,
)
from folio.stages.prepare import open_tokens, prepare_tokenizer, prepare_tokens
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training import hooks
from folio.training.learner import Learner
from folio.training.log import JsonLines, Sink, TensorBoard, Wandb, read_rows
from folio.training.loop import Hook, train
from folio.training.progress import Display
from folio.training.run import (
    Clock,
    Progress,
    Run,
    finish_run,
    open_run,
    rewind,
    undone_if_refused,
)
from folio.training.signals import Interrupted, StopRequest, stop_on_signal
from folio.training.snapshot import newest_snapshot, restore
from folio.viz.report import write_report

Say = Callable[[str], None]
Measure = Callable[[Decoder, Tokenizer], dict[str, float]]


@dataclass
class Parts:
    """What one run is made of."""

    recipe: PretrainRecipe
    run: Run
    tokenizer: Tokenizer
    val_tokens: Tokens
    learner: Learner
    stream: TextStream
    progress: Progress


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
        learn(assemble(recipe, folder, resume, _silent), also_measure)
        return Run(folder)
    with exclusive(folder):
        with undone_if_refused(folder):
            begin(recipe, folder, resume, say)
            parts = assemble(recipe, folder, resume, say)
            describe(parts, say)
        try:
            learn(parts, also_measure)
        except Interrupted:
            say(f"report {write_report(folder)}")
            raise
        say(f"report {write_report(folder)}")
        return parts.run


def assemble(recipe: PretrainRecipe, folder: Path, resume: bool, say: Say) -> Parts:
    """Build what the recipe describes; with `resume`, as the newest snapshot has it."""
    barrier()  # the first rank has prepared the folder
    run = Run(folder)
    tokenizer = Tokenizer.load(run.model)
    train_tokens, val_tokens = open_tokens(recipe, tokenizer, run)
    seed_everything(recipe.seed)
    learner = make_learner(recipe, tokenizer.vocab_size)
    stream = TextStream(
        train_tokens,
        batch=recipe.train.batch,
        length=recipe.length,
        seed=recipe.seed,
        rank=rank(),
        world=world_size(),
        order=recipe.data.order,
    )
    progress = Progress()
    if resume:
        progress = resume_from_newest(run, learner, stream, say)
    return Parts(recipe, run, tokenizer, val_tokens, learner, stream, progress)


def begin(recipe: PretrainRecipe, folder: Path, resume: bool, say: Say) -> None:
    """Open the run's folder, and put its tokenizer and token files there."""
    run = open_run(folder, recipe, resume=resume, command=_command(), say=say)
    say(f"run {folder}")
    tokenizer = prepare_tokenizer(recipe, run, resume, say)
    prepare_tokens(recipe, tokenizer, run, say)


def resume_from_newest(
    run: Run, learner: Learner, stream: TextStream, say: Say
) -> Progress:
    """Make learner and stream what they were at the newest whole snapshot."""
    snapshot = newest_snapshot(run.snapshots, say)
    if snapshot is None:
        say("no snapshot yet: starting from the beginning")
        return Progress()
    restore(snapshot, learner)
    stream.load_state_dict(snapshot.state["stream"])
    say(f"going on from {snapshot.path.name}")
    return Progress(**snapshot.state["progress"])


def make_learner(recipe: PretrainRecipe, vocab_size: int) -> Learner:
    """The decoder and optimizer that the recipe describes, freshly initialized."""
    config = fill_vocab(recipe.model, vocab_size)
    model = Decoder(config).to(find_device(recipe.train.device))
    optim = recipe.optim
    return Learner(
        model,
        adamw(
            model,
            optim.lr,
            weight_decay=optim.weight_decay,
            betas=(optim.beta1, optim.beta2),
            eps=optim.eps,
        ),
        make_schedule(optim.schedule, optim.warmup, recipe.train.steps, optim.floor),
        max_norm=recipe.train.max_norm or None,
        precision=recipe.train.precision,
        on_nonfinite=recipe.train.on_nonfinite,
    )


def fill_vocab(config: ModelConfig, vocab_size: int) -> ModelConfig:
    """The tokenizer decides the vocabulary; a recipe may only ask for a larger one."""
    if 0 < config.vocab_size < vocab_size:
        raise UserError(
            f"model.vocab_size = {config.vocab_size}, but the tokenizer has "
            f"{vocab_size} tokens; leave it out, or make it at least that"
        )
    return replace(config, vocab_size=max(config.vocab_size, vocab_size))


def describe(parts: Parts, say: Say) -> None:
    """Write the facts of the run to run.json, and say the main ones."""
    run, recipe, tokenizer = parts.run, parts.recipe, parts.tokenizer
    learner, train_tokens = parts.learner, parts.stream.tokens
    val_tokens = parts.val_tokens
    rewind(run, learner.step)
    counts = count_parameters(learner.model.config)
    run.update_info(
        parameters=counts,
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


def learn(parts: Parts, also_measure: Measure | None) -> None:
    """Train to the end, or until asked to stop."""
    if parts.stream.rank:
        _train(parts, [])
        return
    steps, clock = parts.recipe.train.steps, Clock(parts.progress)
    sinks = _sinks(parts.recipe, parts.run)
    try:
        with stop_on_signal() as stop:
            log = hooks.LogMetrics(sinks, clock, parts.recipe.log.every, steps)
            watch = _watching_hooks(parts)
            if parts.learner.step == 0:
                for hook in watch:
                    hook(parts.learner, {})
            evaluate = _evaluation_hook(parts, sinks, clock, also_measure)
            save = _saving_hook(parts, clock, stop)
            _train(parts, [log, evaluate, *watch, save, log.resume_clock])
    except BaseException as error:
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        finish_run(parts.run, status, parts.learner.step)
        raise
    finally:
        for sink in sinks:
            sink.close()
    _finish(parts, clock)


def _train(parts: Parts, beside: list[Hook]) -> None:
    train(
        parts.learner,
        parts.stream,
        next_token,
        steps=parts.recipe.train.steps,
        accumulate=parts.recipe.train.accumulate,
        hooks=beside,
    )


def _evaluation_hook(
    parts: Parts, sinks: list[Sink], clock: Clock, also_measure: Measure | None
) -> Hook:
    recipe, learner = parts.recipe, parts.learner

    def measure() -> dict[str, float]:
        values = perplexity(
            learner.model,
            parts.val_tokens,
            recipe.length,
            recipe.train.eval_batch,
            learner.autocast,
        )
        if also_measure is not None:
            values |= also_measure(learner.model, parts.tokenizer)
        return values

    return hooks.evaluate(
        measure,
        sinks,
        clock,
        parts.progress,
        parts.run,
        every=recipe.train.eval_every,
        last=recipe.train.steps,
    )


def _saving_hook(parts: Parts, clock: Clock, stop: StopRequest) -> Hook:
    def state() -> dict[str, Any]:
        clock.read()
        return {
            "stream": parts.stream.state_dict(),
            "progress": parts.progress.state_dict(),
        }

    return hooks.save(
        parts.run,
        state,
        parts.progress,
        stop,
        every=parts.recipe.train.save_every,
        last=parts.recipe.train.steps,
        keep=parts.recipe.train.keep,
    )


def _watching_hooks(parts: Parts) -> list[Hook]:
    """Samples and attention against steps."""
    options, last = parts.recipe.sample, parts.recipe.train.steps
    run, tokenizer = parts.run, parts.tokenizer
    sampling = Sampling(options.temperature, top_k=options.top_k, top_p=options.top_p)
    sentence = options.attention or _first_words(tokenizer, parts.val_tokens)
    return [
        hooks.sample(
            tokenizer,
            options.prompts,
            sampling,
            options.max_new_tokens,
            run,
            every=options.every,
            last=last,
        ),
        hooks.record_attention(
            tokenizer,
            sentence,
            min(32, parts.recipe.model.max_seq_len),
            run,
            every=options.every,
            last=last,
        ),
    ]


def _first_words(tokenizer: Tokenizer, tokens: Tokens) -> str:
    """The beginning of the held-out text, for the figures."""
    return tokenizer.decode(tokens[: min(32, len(tokens))], special=False)


def _sinks(recipe: PretrainRecipe, run: Run) -> list[Sink]:
    sinks: list[Sink] = [JsonLines(run.metrics), Display(recipe.train.steps)]
    if recipe.log.tensorboard:
        sinks.append(TensorBoard(run.folder / "tensorboard"))
    if recipe.log.wandb:
        sinks.append(Wandb(run.folder, recipe.name, asdict(recipe)))
    return sinks


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
