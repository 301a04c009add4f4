"""What a run of any stage is made of, and the parts that all stages make alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.lora import add_lora
from folio.optim.adamw import adamw
from folio.optim.muon import muon
from folio.optim.schedule import make_schedule
from folio.runtime import find_device, world_size
from folio.stages.parent import parent_model
from folio.stages.recipe import StageRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.learner import TWIN, Learner, Objective
from folio.training.loop import Hook
from folio.training.parallel import Alone
from folio.training.run import Progress, Run
from folio.training.snapshot import newest_snapshot, restore

if TYPE_CHECKING:  # half a second, which runs of one process are spared
    from folio.training.sharded import Sharded

Say = Callable[[str], None]
Measure = Callable[[], dict[str, float]]


class Stream(Protocol):
    """Endless batches whose position can be stored."""

    def __iter__(self) -> Iterable[Batch]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Parts:
    """What one run is made of; stages differ in nothing else."""

    recipe: StageRecipe
    run: Run
    tokenizer: Tokenizer
    learner: Learner
    stream: Stream
    objective: Objective
    kept: nn.Module  # whose weights model/ holds: the learner's model, or a part of it
    measure: Measure | None = None  # on held-out data
    best: str | None = "val_loss"  # measure whose lowest decides on them; none: newest
    unit: str = "tokens"  # what denominators count
    facts: dict[str, Any] = field(default_factory=dict)  # for run.json
    figures: dict[str, Any] = field(default_factory=dict)  # JSON files of figures/
    first: list[Hook] = field(default_factory=list)  # before all others, on every rank
    watch: list[Hook] = field(default_factory=list)  # on the first rank
    may_save: Callable[[], bool] = lambda: True  # False: not between these two steps
    progress: Progress = field(default_factory=Progress)


def make_learner(recipe: StageRecipe, vocab_size: int) -> Learner:
    """The decoder and optimizer that the recipe describes, before the first step."""
    return learner_of(recipe, make_model(recipe, vocab_size))


def learner_of(
    recipe: StageRecipe,
    model: nn.Module,
    rates: dict[str, float] | None = None,
) -> Learner:
    """`model` and an optimizer for it; `rates` are those of parts, by their names."""
    device = find_device(recipe.train.device)
    for module in model.modules():
        if isinstance(module, Decoder):
            module.checkpoint_layers = recipe.train.checkpoint_layers
    optim, ranks = recipe.optim, sharded(recipe, model, device)
    if ranks is None:
        model = model.to(device)
    return Learner(
        model,
        make_optimizer(recipe, ranks or model, rates),
        make_schedule(optim.schedule, optim.warmup, recipe.train.steps, optim.floor),
        max_norm=recipe.train.max_norm or None,
        precision=recipe.train.precision,
        compiled=recipe.train.compile and ranks is None,
        on_nonfinite=recipe.train.on_nonfinite,
        watch_gradients=recipe.log.gradients,
        ranks=ranks,
    )


def sharded(
    recipe: StageRecipe, model: nn.Module, device: torch.device
) -> Sharded | None:
    """The model in parts, if that is asked for and there are others to have them."""
    if world_size() == 1 or recipe.parallel.kind != "fsdp":
        return None
    from folio.training.sharded import Sharded

    return Sharded(
        model,
        device,
        compiled=recipe.train.compile,
        everywhere=recipe.samples_itself,
        dtype=torch.bfloat16 if recipe.train.precision == TWIN else None,
    )


def make_optimizer(
    recipe: StageRecipe,
    model: nn.Module | Alone,
    rates: dict[str, float] | None = None,
) -> torch.optim.Optimizer:
    """The optimizer that the recipe asks for."""
    optim = recipe.optim
    common = {
        "weight_decay": optim.weight_decay,
        "betas": (optim.beta1, optim.beta2),
        "eps": optim.eps,
        "rates": rates,
    }
    if optim.kind == "muon":
        half = recipe.train.precision != "fp32"
        return muon(
            model,
            optim.lr,
            momentum=optim.momentum,
            rounds=optim.rounds,
            dtype=torch.bfloat16 if half else torch.float32,
            parts=model if isinstance(model, Alone) and model.split else None,
            **common,
        )
    return adamw(model, optim.lr, **common)


def make_model(recipe: StageRecipe, vocab_size: int) -> Decoder:
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


def resume_from_newest(parts: Parts, say: Say) -> None:
    """Make learner and stream what they were at the newest whole snapshot."""
    snapshot = newest_snapshot(parts.run.snapshots, say)
    if snapshot is None:
        say("no snapshot yet: starting from the beginning")
        return
    restore(snapshot, parts.learner)
    parts.stream.load_state_dict(snapshot.state["stream"])
    parts.progress = Progress(**snapshot.state["progress"])
    say(f"going on from {snapshot.path.name}")
