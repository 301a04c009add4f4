"""Out of memory, in one line: what a step takes, and what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from folio.config import UserError
from folio.model.config import ModelConfig
from folio.planning.memory import peak
from folio.stages.plan import work_of
from folio.stages.recipe import StageRecipe

SAID = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextmanager
def told_if_memory_ends(recipe: StageRecipe, config: ModelConfig) -> Iterator[None]:
    """Turn what the system says of it into a UserError with the planner's figures."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory: {what_to_lower(recipe, config)}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch's CPU allocator and cuBLAS say it in words of their own."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(words in str(error) for words in SAID)


def what_to_lower(recipe: StageRecipe, config: ModelConfig) -> str:
    """What a step takes by the planner, and what it would with each flag that helps."""
    if recipe.samples_itself:
        return "raise --train.accumulate, or lower --rollout.prompts"
    work, train = work_of(recipe), recipe.train
    flags = {}
    if train.batch > 1:
        halved = -(-train.batch // 2), 2 * train.accumulate
        flags["--train.batch {} --train.accumulate {}".format(*halved)] = replace(
            work, batch=halved[0], accumulate=halved[1]
        )
    if not train.checkpoint_layers:
        flags["--train.checkpoint_layers true"] = replace(work, checkpoint_layers=True)
    if not flags:
        flags[f"--train.length {recipe.length // 2}"] = replace(
            work, length=recipe.length // 2
        )
    helps = [f"{flag}: {gb(config, lighter)}" for flag, lighter in flags.items()]
    return (
        f"{train.batch} sequences of {recipe.length:,} tokens take about "
        f"{gb(config, work)}; with {', with '.join(helps)}"
    )


def gb(config: ModelConfig, work) -> str:
    return f"{peak(config, work).total / 1e9:.2g} GB"
