"""What a recipe would do, before anything is run."""

from __future__ import annotations

import dataclasses
import inspect
import re
import time
from typing import Any

import torch

from folio.config import toml_value
from folio.model.config import ModelConfig
from folio.model.count import count_parameters, flops_per_token
from folio.model.heads import LOGITS_AT_ONCE
from folio.stages.assemble import fill_vocab
from folio.stages.prepare import load_tokenizer
from folio.stages.recipe import PretrainRecipe, StageRecipe, TokenizerRecipe
from folio.text.tokenizer import SPECIAL_TOKENS
from folio.training.progress import duration


def show(recipe: StageRecipe) -> None:
    """`folio show`: the resolved recipe, its fields explained, and its costs."""
    print(annotated(recipe))
    vocab_size, known = vocabulary(recipe.tokenizer)
    config = fill_vocab(recipe.model, vocab_size)
    counts = count_parameters(config)
    guess = "" if known else f", with a vocabulary of about {vocab_size} (a guess)"
    print(f"parameters{guess}")
    for part, count in counts.items():
        print(f"  {part:12}{count:>14,}")
    if not isinstance(recipe, PretrainRecipe):
        return  # how long answers will be is known when they have been given
    tokens = recipe.train.steps * recipe.train.batch * recipe.train.accumulate
    tokens *= recipe.length
    flops = tokens * flops_per_token(config, recipe.length)
    print(f"training on {tokens:,} tokens: {flops:.3g} floating-point operations")
    for part, size in memory(config, recipe).items():
        print(f"  {part:12}{size / 1e6:>12,.1f} MB")
    speed = matmul_speed()
    print(
        f"about {duration(flops / speed / 0.35)} on this CPU, if a step reaches 35 % of"
        f" the {speed / 1e9:.0f} GFLOP/s of a plain matrix product; no GPU counted"
    )


def vocabulary(options: TokenizerRecipe) -> tuple[int, bool]:
    """The size of the vocabulary, and whether it is known before the text is read."""
    if options.path is not None:
        return load_tokenizer(options.path).vocab_size, True
    if options.kind == "byte":
        return 256 + len(SPECIAL_TOKENS), True
    if options.kind == "char":
        return 100, False
    return options.vocab_size, True


def annotated(recipe: StageRecipe) -> str:
    """The recipe as TOML, each field followed by the comment in its dataclass."""
    return "\n".join(_annotated_lines(recipe, "")) + "\n"


def _annotated_lines(values: Any, table: str) -> list[str]:
    """One dataclass: its own fields, then the tables inside it."""
    comments, lines, tables = field_comments(type(values)), [], []
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if dataclasses.is_dataclass(value):
            name = f"{table}.{field.name}" if table else field.name
            tables += ["", f"[{name}]", *_annotated_lines(value, name)]
            continue
        # TOML has no null: a field that is not set is shown, but commented out
        line = f"{field.name} = {toml_value(value)}"
        line = f"# {field.name}" if value is None else line
        comment = comments.get(field.name)
        lines.append(f"{line:<44}  # {comment}" if comment else line)
    return lines + tables


def field_comments(schema: type) -> dict[str, str]:
    """{"warmup": "its comment"}: what stands behind each field of a dataclass."""
    found = {}
    for kind in reversed(schema.__mro__[:-1]):  # what it inherits first
        source = inspect.getsource(kind)
        for field in dataclasses.fields(schema):
            line = re.search(rf"^    {field.name}:.*?  # (.*)$", source, re.MULTILINE)
            if line:
                found[field.name] = line.group(1)
    return found


def memory(config: ModelConfig, recipe: PretrainRecipe) -> dict[str, int]:
    """Bytes that training holds at once, in fp32: a first estimate.

    Activations: what backward needs of each layer, about 16 D + 3 F numbers a token
    (F: of all feed-forward parts that a token meets), and two copies of the logits, as
    far as they are in memory at once; the fused kernel spares the attention weights.
    With checkpoint_layers only what enters each layer is kept, and one layer is whole.
    """
    parameters = count_parameters(config)["total"]
    places = recipe.train.batch * recipe.length
    met = {"d": config.ff_width, "e": 0, "b": config.ff_width}
    if config.experts is not None:
        options = config.experts
        for kind in "eb":
            met[kind] += (options.active + options.shared) * config.expert_width
    layers = [16 * config.d_model + 3 * met[kind] for kind in config.layer_mlps]
    kept = sum(layers)
    if recipe.train.checkpoint_layers:
        kept = config.n_layers * config.d_model + max(layers)
    logits = min(places * config.vocab_size, LOGITS_AT_ONCE)
    activations = places * kept + 2 * logits
    return {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": 8 * parameters,
        "activations": 4 * activations,
    }


def matmul_speed(size: int = 512, seconds: float = 0.2) -> float:
    """Operations per second of a square fp32 matrix product on this CPU."""
    a = torch.rand(size, size)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        torch.mm(a, a)
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - start)
