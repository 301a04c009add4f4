"""What is watched while a run learns: logs, held-out loss, samples, attention, load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.runtime import rank
from folio.stages.assemble import Parts
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training import hooks
from folio.training.experts import balance_experts
from folio.training.log import JsonLines, Sink, TensorBoard, Wandb
from folio.training.loop import Hook
from folio.training.progress import Display
from folio.training.run import Clock, Run
from folio.training.signals import StopRequest

Measure = Callable[[Decoder, Tokenizer], dict[str, float]]


def make_sinks(recipe: PretrainRecipe, run: Run) -> list[Sink]:
    """Where metrics go: the run's file, the screen, and the trackers asked for."""
    sinks: list[Sink] = [JsonLines(run.metrics), Display(recipe.train.steps)]
    if recipe.log.tensorboard:
        sinks.append(TensorBoard(run.folder / "tensorboard"))
    if recipe.log.wandb:
        sinks.append(Wandb(run.folder, recipe.name, asdict(recipe)))
    return sinks


def evaluation_hook(
    parts: Parts, sinks: list[Sink], clock: Clock, also_measure: Measure | None
) -> Hook:
    """Loss over the whole held-out text, and whatever else is to be measured."""
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


def expert_hooks(parts: Parts) -> list[Hook]:
    """For models with experts: these go first, on all ranks alike.

    Not with LoRA, which leaves everything else as its parent has it, biases too.
    """
    if not parts.learner.model.config.expert_layers or parts.recipe.lora is not None:
        return []
    last = parts.recipe.train.steps
    figure = None if rank() else parts.run.figures / "experts.json"
    return [balance_experts(figure, every=max(1, last // 60), last=last)]


def watching_hooks(parts: Parts) -> list[Hook]:
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
    )
