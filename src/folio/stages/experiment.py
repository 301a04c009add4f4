"""Ablations: one question, one base recipe, some variants of it, several seeds.

An experiment is a TOML file, such as `experiments/norm.toml`:

    title = "LayerNorm against RMSNorm"
    question = "Does a norm have to subtract the mean?"
    base = "base/tales.toml"          # a recipe beside it; [recipe] is laid over it
    seeds = [1, 2, 3]
    equal = "parameters"              # checked before anything is trained
    metric = "val_loss"               # compared at the last step; less is better
    curves = ["val_loss", "grad_norm.*"]

    [variants.layernorm.model]        # the first one is what others are compared with
    norm = "layernorm"

    [variants.rmsnorm.model]
    norm = "rmsnorm"

With the same seed, every variant reads the same text in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from folio.config import UserError, build, merge, read_toml
from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.stages.recipe import PretrainRecipe

TOLERANCE = 1.02  # "equal" counts may differ by so much
SAME = ("name", "seed", "tokenizer", "data", "sample", "log")  # in all variants
QUICK = {
    "tokenizer": {"vocab_size": 300, "sample_megabytes": 0.05},
    "data": {"megabytes": 0.3, "val_fraction": 0.1},
    "optim": {"warmup": 2},
    "train": {"steps": 4, "batch": 2, "eval_every": 2},
    "log": {"every": 2},
}


@dataclass(frozen=True)
class Experiment:
    """What an experiment's file says."""

    title: str = ""
    question: str = ""
    base: str | None = None  # a recipe's file, seen from the experiment's
    recipe: dict = field(default_factory=dict)  # laid over the base
    seeds: tuple[int, ...] = (1, 2, 3)
    equal: Literal["parameters", "active parameters", "nothing"] = "parameters"
    metric: str = "val_loss"  # its value at the last step is compared
    curves: tuple[str, ...] = ("val_loss",)  # keys of the log, with * and ?
    note: str = ""  # what a reader of the results must know
    variants: dict = field(default_factory=dict)  # name -> what it changes

    def __post_init__(self) -> None:
        for name in ("title", "question"):
            if not getattr(self, name):
                raise UserError(f"{name} is missing: say it in a sentence")
        if len(self.variants) < 2:
            raise UserError(
                f"variants: {len(self.variants)} given; a comparison needs two, each a "
                "table [variants.NAME]"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds = {list(self.seeds)}: name some, each once")
        for name, changes in self.variants.items():
            self._check_variant(name, changes)

    def _check_variant(self, name: str, changes: Any) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise UserError(
                f"variants.{name}: use small letters, digits and dashes; a folder is "
                "named after it"
            )
        if not isinstance(changes, dict):
            raise UserError(f"variants.{name} = {changes!r}: expected a table")
        for key in changes.keys() & set(SAME):
            raise UserError(
                f"variants.{name}.{key}: must be the same for all; set it in [recipe]"
            )


@dataclass(frozen=True)
class Trial:
    """One variant with one seed: a run like any other."""

    variant: str
    seed: int
    recipe: PretrainRecipe
    folder: Path


def read_experiment(path: str | Path) -> Experiment:
    """The experiment in a TOML file, its base recipe merged in."""
    path = Path(path)
    try:
        experiment = build(Experiment, read_toml(path))
        if experiment.base is None:
            return experiment
        recipe = merge(read_toml(path.parent / experiment.base), experiment.recipe)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return replace(experiment, recipe=recipe)


def make_trials(experiment: Experiment, home: Path, *, quick: bool) -> list[Trial]:
    """Every variant with every seed, seed by seed."""
    trials = []
    for seed in experiment.seeds:
        for name, changes in experiment.variants.items():
            values = merge(experiment.recipe, changes)
            values = merge(values, QUICK) if quick else values
            values = merge(values, {"name": f"{home.name}/{name}-{seed}", "seed": seed})
            try:
                recipe = build(PretrainRecipe, values)
            except UserError as error:
                raise UserError(f"variant {name!r}: {error}") from None
            recipe = share_text(recipe, home)
            trials.append(Trial(name, seed, recipe, home / f"{name}-{seed}"))
    return trials


def share_text(recipe: PretrainRecipe, home: Path) -> PretrainRecipe:
    """One tokenizer for the whole experiment, one folder of tokens for each seed."""
    tokenizer, data = recipe.tokenizer, recipe.data
    if tokenizer.path is None:
        path = (home / "tokenizer.json").as_posix()
        tokenizer = replace(tokenizer, path=path)
    if data.shards is None:
        data = replace(data, shards=(home / f"text-{recipe.seed}").as_posix())
    return replace(recipe, tokenizer=tokenizer, data=data)


# ---- what variants have in common, and what they cost --------------------------------


def facts_of(config: ModelConfig) -> dict[str, float]:
    """What a variant costs: weights, those a token meets, and bytes of its cache.

    The cache in fp32, full to `max_seq_len`, by token: windows make it smaller.
    """
    kept = [
        min(config.max_seq_len, window + config.sinks) if window else config.max_seq_len
        for window in config.layer_windows
    ]
    numbers = 2 * config.kv_heads * config.head_width * sum(kept)
    return {
        "parameters": count_parameters(config)["total"],
        "active_parameters": count_parameters(config, active_only=True)["total"],
        "cache_bytes_per_token": 4 * numbers / config.max_seq_len,
    }


def check_equal(experiment: Experiment, facts: dict[str, dict[str, float]]) -> None:
    """What is to be equal must be, within 2 %."""
    if experiment.equal == "nothing":
        return
    counts = {
        name: fact[experiment.equal.replace(" ", "_")] for name, fact in facts.items()
    }
    least, most = min(counts, key=counts.get), max(counts, key=counts.get)
    if counts[most] > TOLERANCE * counts[least]:
        raise UserError(
            f"equal = {experiment.equal!r}, but {most} has {counts[most]:,} and "
            f"{least} {counts[least]:,}: change a width (such as d_ff), or say "
            "equal = 'nothing'"
        )


def check_tokens(trials: Sequence[Trial]) -> None:
    """Every variant must read equally many tokens."""
    read = {trial.variant: tokens_read(trial.recipe) for trial in trials}
    if len(set(read.values())) > 1:
        raise UserError(
            f"the variants read different numbers of tokens, {read}: make steps x "
            "batch x accumulate x length the same"
        )


def tokens_read(recipe: PretrainRecipe) -> int:
    """Tokens of the whole training."""
    train = recipe.train
    return train.steps * train.batch * train.accumulate * recipe.length
