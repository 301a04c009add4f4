"""What is watched while a run learns: logs, held-out loss, samples, attention, load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from folio.data.tokens import Tokens
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.runtime import rank
from folio.stages.assemble import Parts
from folio.stages.recipe import PretrainRecipe, StageRecipe
from folio.text.tokenizer import Tokenizer
from folio.training import hooks
from folio.training.experts import balance_experts
from folio.training.log import JsonLines, Sink
from folio.training.loop import Hook
from folio.training.progress import Display
from folio.training.run import Clock, Run
from folio.training.signals import StopRequest
from folio.training.trackers import TensorBoard, Tracker, Wandb, show_files


def make_trackers(recipe: StageRecipe, run: Run, step: int) -> list[Tracker]:
    """Those that the recipe asks for; the run goes on from `step`."""
    trackers: list[Tracker] = []
    if recipe.log.tensorboard:
        folder = run.folder / "tensorboard"
        trackers.append(TensorBoard(folder, asdict(recipe), after=step))
    if recipe.log.wandb:
        trackers.append(Wandb(run, recipe.name, asdict(recipe)))
    return trackers


def make_sinks(recipe: StageRecipe, run: Run, trackers: list[Tracker]) -> list[Sink]:
    """Where metrics go: the run's file, the screen, and the trackers."""
    return [JsonLines(run.metrics), Display(recipe.train.steps), *trackers]


def tracking_hooks(trackers: Sequence[Tracker], run: Run) -> list[Hook]:
    """What trackers show besides metrics: to come after what watches the model."""
    return [show_files(trackers, run)] if trackers else []


def evaluation_hook(parts: Parts, sinks: list[Sink], clock: Clock) -> list[Hook]:
    """What is measured on held-out data, if anything is."""
    if parts.measure is None:
        return []
    hook = hooks.evaluate(
        parts.measure,
        sinks,
        clock,
        parts.progress,
        parts.run,
        every=parts.recipe.train.eval_every,
        last=parts.recipe.train.steps,
        keep=parts.kept,
        best=parts.best,
        unit=parts.unit,
    )
    return [hook]


def looking_hook(recipe: StageRecipe) -> Hook:
    """On all ranks: the model is whole whenever the first one measures or samples."""
    last, measured = recipe.train.steps, recipe.train.eval_every
    sampled = recipe.sample.every if isinstance(recipe, PretrainRecipe) else 0

    def due_at(step: int) -> bool:
        return any(hooks.due(step, every, last) for every in (measured, sampled))

    return hooks.look(due_at)


def expert_hooks(recipe: StageRecipe, model: Decoder, run: Run) -> list[Hook]:
    """For models with experts: these go first, on all ranks alike.

    Not with LoRA, which leaves everything else as its parent has it, biases too.
    """
    if not model.config.expert_layers or recipe.lora is not None:
        return []
    last = recipe.train.steps
    figure = None if rank() else run.figures / "experts.json"
    return [balance_experts(figure, every=max(1, last // 60), last=last)]


def watching_hooks(
    recipe: PretrainRecipe, run: Run, tokenizer: Tokenizer, held_out: Tokens
) -> list[Hook]:
    """Samples and attention against steps."""
    options, last = recipe.sample, recipe.train.steps
    sampling = Sampling(options.temperature, top_k=options.top_k, top_p=options.top_p)
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
            options.attention or _first_words(tokenizer, held_out),
            min(32, recipe.model.max_seq_len),
            run,
            every=options.every,
            last=last,
        ),
    ]


def _first_words(tokenizer: Tokenizer, tokens: Tokens) -> str:
    """The beginning of the held-out text, for the figures."""
    return tokenizer.decode(tokens[: min(32, len(tokens))], special=False)


def saving_hook(parts: Parts, clock: Clock, stop: StopRequest) -> Hook:
    """Snapshots of all that the run must remember."""

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
        may_save=parts.may_save,
    )
