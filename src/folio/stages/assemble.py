"""From a recipe to the parts of a run: tokenizer, tokens, learner, stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from folio.config import UserError
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.lora import add_lora
from folio.optim.adamw import adamw
from folio.optim.schedule import make_schedule
from folio.runtime import barrier, find_device, rank, seed_everything, world_size
from folio.stages.parent import parent_model
from folio.stages.prepare import open_tokens
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.learner import Learner
from folio.training.run import Progress, Run
from folio.training.snapshot import newest_snapshot, restore

Say = Callable[[str], None]


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


def make_learner(recipe: PretrainRecipe, vocab_size: int) -> Learner:
    """The decoder and optimizer that the recipe describes, before the first step."""
    model = make_model(recipe, vocab_size).to(find_device(recipe.train.device))
    model.checkpoint_layers = recipe.train.checkpoint_layers
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
        watch_gradients=recipe.log.gradients,
    )


def make_model(recipe: PretrainRecipe, vocab_size: int) -> Decoder:
    """Freshly initialized, or with the parent's weights; LoRA beside them if asked."""
    config = fill_vocab(recipe.model, vocab_size)
    if recipe.parent is None:
        return Decoder(config)
    model = parent_model(recipe.parent, config)
    if recipe.lora is not None:
        add_lora(model, recipe.lora)
    return model


def fill_vocab(config: ModelConfig, vocab_size: int) -> ModelConfig:
    """The tokenizer decides the vocabulary; a recipe may only ask for a larger one."""
    if 0 < config.vocab_size < vocab_size:
        raise UserError(
            f"model.vocab_size = {config.vocab_size}, but the tokenizer has "
            f"{vocab_size} tokens; leave it out, or make it at least that"
        )
    return replace(config, vocab_size=max(config.vocab_size, vocab_size))


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
