"""What a recipe would do, before anything is run."""

from __future__ import annotations

import dataclasses
import inspect
import re
import time

import torch

from folio.config import to_toml
from folio.model.config import ModelConfig
from folio.model.count import count_parameters, flops_per_token
from folio.stages.pretrain import fill_vocab
from folio.stages.recipe import PretrainRecipe
from folio.training.progress import duration

FIXED_VOCABULARY = {"char": 100, "byte": 263}  # char: a guess until the text is read


def show(recipe: PretrainRecipe) -> None:
    """`folio show`: the resolved recipe, its fields explained, and its costs."""
    print(annotated(recipe))
    options = recipe.tokenizer
    vocab_size = FIXED_VOCABULARY.get(options.kind, options.vocab_size)
    config = fill_vocab(recipe.model, vocab_size)
    counts = count_parameters(config)
    print("parameters")
    for part, count in counts.items():
        print(f"  {part:12}{count:>14,}")
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


def annotated(recipe: PretrainRecipe) -> str:
    """The recipe as TOML, each field followed by the comment in its dataclass."""
    comments = field_comments(type(recipe))
    table, lines = "", []
    for line in to_toml(recipe).splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        name = line.split(" = ")[0]
        comment = comments.get(f"{table}.{name}" if table else name)
        lines.append(f"{line:<44}  # {comment}" if comment else line)
    return "\n".join(lines) + "\n"


def field_comments(schema: type, prefix: str = "") -> dict[str, str]:
    """{"optim.warmup": "its comment"} for a dataclass and the ones inside it."""
    source = inspect.getsource(schema)
    found = {}
    for field in dataclasses.fields(schema):
        line = re.search(rf"^    {field.name}:.*?  # (.*)$", source, re.MULTILINE)
        if line:
            found[prefix + field.name] = line.group(1)
        inner = field.default_factory
        if dataclasses.is_dataclass(inner):
            found |= field_comments(inner, f"{prefix}{field.name}.")
    return found


def memory(config: ModelConfig, recipe: PretrainRecipe) -> dict[str, int]:
    """Bytes that training holds at once, in fp32: a first estimate.

    Activations: what backward needs of each layer, about 16 D + 3 F numbers a token,
    H T of attention weights where no fused kernel spares them, and two copies of the
    logits.
    """
    parameters = count_parameters(config)["total"]
    places = recipe.train.batch * recipe.length
    layer = 16 * config.d_model + 3 * config.ff_width
    activations = places * (config.n_layers * layer + 2 * config.vocab_size)
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
