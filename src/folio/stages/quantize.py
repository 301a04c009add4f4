"""Make a run's weights smaller, and measure what that costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from folio import __version__
from folio.config import UserError, build, read_toml, to_toml
from folio.data.shards import open_shards
from folio.data.tokens import Tokens
from folio.evals.agreement import agreement
from folio.evals.perplexity import perplexity
from folio.files import write_atomically
from folio.model.quantize import Quantization, quantize
from folio.model.store import save_model
from folio.runtime import git_commit, machine
from folio.stages.parent import fingerprint
from folio.stages.prepare import shard_folder
from folio.stages.recipe import PretrainRecipe
from folio.stages.use import encode_file, load_run
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run, finish_run

Say = Callable[[str], None]


def quantize_run(
    folder: Path,
    out: Path,
    *,
    bits: int = 8,
    group: int = 32,
    path: str | None = None,
    device: str = "auto",
    say: Say = print,
) -> Run:
    """`folio quantize`: a new run with rounded weights, and its loss of quality.

    Both models are judged on the run's own held-out text, or on the text in `path`.
    """
    options, run = Quantization(bits, group), Run(out)
    if run.folder.exists() and any(run.folder.iterdir()):
        raise UserError(f"{out} is not empty; choose another folder")
    model, tokenizer = load_run(folder, device)
    small = quantize(model, options.bits, options.group)
    tokens, length = _text_of(Run(folder), tokenizer, path, model.config.max_seq_len)
    before = perplexity(model, tokens, length)
    results = perplexity(small, tokens, length)
    results["agreement"] = agreement(model, small, tokens, length)
    save_model(small, run.model)
    tokenizer.save(run.model / "tokenizer.json")
    sizes = {"bytes_before": _size(Run(folder)), "bytes": _size(run)}
    _describe(run, Run(folder), options, results | sizes)
    _report(before, results, sizes, say)
    return run


def _text_of(
    run: Run, tokenizer: Tokenizer, path: str | None, limit: int
) -> tuple[Tokens, int]:
    """The text to judge by, and the length of its windows."""
    if path is not None:
        return encode_file(path, tokenizer), min(limit, 1024)
    if not run.recipe.is_file():
        raise UserError(
            f"{run.folder} was imported, without a text: give one with --path"
        )
    recipe = build(PretrainRecipe, read_toml(run.recipe))
    folder = shard_folder(recipe, run)
    return open_shards(folder, "validation", tokenizer), recipe.length


def _size(run: Run) -> int:
    """Bytes of the weights on disk."""
    return sum(path.stat().st_size for path in run.model.glob("*.safetensors"))


def _describe(run: Run, parent: Run, options: Quantization, results: dict) -> None:
    """recipe.toml and run.json: the parent's recipe, its text where it lies."""
    if parent.recipe.is_file():
        recipe = build(PretrainRecipe, read_toml(parent.recipe))
        shards = str(shard_folder(recipe, parent))
        recipe = replace(recipe, data=replace(recipe.data, shards=shards))
        write_atomically(run.recipe, to_toml(recipe))
    run.update_info(
        folio=__version__,
        commit=git_commit(),
        **machine(),
        parent={
            "path": str(parent.folder),
            "fingerprint": fingerprint(parent.folder),
        },
        notes=[f"weights rounded to {options.bits} bits"],
    )
    finish_run(run, "finished", parent.read_info().get("step", 0), results=results)


def _report(before: dict, after: dict, sizes: dict, say: Say) -> None:
    was, now = sizes["bytes_before"], sizes["bytes"]
    say(f"{'weights':20} {was / 1e6:10.2f} MB -> {now / 1e6:10.2f} MB")
    for name, value in before.items():
        change = after[name] - value
        say(f"{name:20} {value:10.4f}    -> {after[name]:10.4f}    ({change:+.4f})")
    say(f"{'same first guess':20} {after['agreement']:10.2%}")
