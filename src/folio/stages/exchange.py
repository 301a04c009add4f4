"""`folio import` and `folio export`: models of others as runs, and runs for others."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

from folio import __version__
from folio.config import UserError, nearest
from folio.files import exclusive, remove_temporary, write_atomically
from folio.hub.convert import config_from_hf, tensors_from_hf
from folio.hub.folder import SINGLE, ModelFolder, Weights
from folio.hub.gguf_file import write_gguf
from folio.hub.hf import GENERATION, NAMES, SHARD, dtype_named, write_hf
from folio.hub.tokenizer import read_tokenizer
from folio.hub.written import save_tensors, staged, write_json
from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.model.quantize import quantization_of
from folio.model.store import is_scorer
from folio.runtime import git_commit, machine
from folio.stages.card import model_card
from folio.stages.space import write_space
from folio.stages.use import load_run
from folio.training.run import Run

Say = Callable[[str], None]
FORMATS = ("hf", "gguf", "space")


# ---- in ------------------------------------------------------------------------------


def import_model(
    source: Path, folder: Path, *, dtype: str = "float32", say: Say = print
) -> Run:
    """Make a run of a folder as `save_pretrained` writes it; nothing in it is run.

    Weights are kept in `dtype`. UserError, and no trace of a run, for a folder that
    is damaged, malicious, or of a model that can't be had exactly.
    """
    kept = dtype_named(dtype)
    run = Run(folder)
    with exclusive(folder):
        if run.info.is_file() or run.model.exists() or run.recipe.is_file():
            raise UserError(f"{folder} already holds a run; choose another folder")
        remove_temporary(folder)
        files = ModelFolder(source)
        values = files.read_json("config.json")
        try:
            config, family = config_from_hf(values)
        except UserError as error:
            raise UserError(f"{source / 'config.json'}: {error}") from None
        weights = files.weights()
        _check_size(config, weights)
        ids = values | files.read_json_if_any(GENERATION)
        tokenizer = read_tokenizer(files, ids, say)
        if tokenizer.vocab_size > config.vocab_size:
            raise UserError(
                f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the model "
                f"only {config.vocab_size}; they don't belong together"
            )
        try:
            tensors = tensors_from_hf(family, config, weights, dtype=kept)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        with staged(run.model) as staging:
            save_tensors(tensors, staging / SINGLE)
            write_json(staging / "config.json", dataclasses.asdict(config))
            tokenizer.save(staging)
        found = NAMES.get(weights.dtype, str(weights.dtype))
        run.update_info(
            folio=__version__,
            commit=git_commit(),
            **machine(),
            command="import",
            status="imported",
            finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            parent=None,
            notes=[],
            parameters=count_parameters(config),
            tokenizer={
                "kind": tokenizer.name,
                "vocab_size": tokenizer.vocab_size,
                "fingerprint": tokenizer.fingerprint,
            },
            source={
                "folder": Path(os.path.abspath(source)).name,
                "family": family.name,
                "dtype": found,
                "kept_as": dtype,
                "eos_token_id": ids.get("eos_token_id"),
                "sha256": files.digests | weights.digests(),
            },
        )
    total = count_parameters(config)["total"]
    say(f"{folder}: {family.name}, {total:,} parameters, kept as {dtype}")
    if found != dtype:
        say(f"(the weights in {source} are {found})")
    return run


def _check_size(config: ModelConfig, weights: Weights) -> None:
    """Do the files hold about what the configuration says, and does it fit in here?

    Before any memory is taken: a damaged or malicious file can claim anything. What is
    in files besides the model's weights (a copy of a tied head, masks, frequencies) is
    never as much as the model.
    """
    total, found = count_parameters(config)["total"], weights.parameters
    if not total <= found <= 3 * total:
        raise UserError(
            f"{weights.folder.path}: config.json describes {total:,} parameters, the "
            f"files hold {found:,} numbers; they don't belong together"
        )
    needed, there = 8 * total, _memory()
    if needed > there:
        raise UserError(
            f"{weights.folder.path}: {total:,} parameters need {needed / 2**30:.0f} "
            f"GiB to be imported, this machine has {there / 2**30:.0f}"
        )


def _memory() -> float:
    """Bytes of this machine's memory; without end where the system doesn't tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


# ---- out -----------------------------------------------------------------------------


def export_run(
    folder: Path,
    target: Path,
    *,
    format: str = "hf",
    dtype: str | None = None,
    shard: int = SHARD,
    say: Say = print,
) -> Path:
    """Write a run's model for others: for `transformers`, llama.cpp, or as a Space.

    `dtype`: what weights are written as; by default as an imported model had them, and
    else float32. `shard`: bytes of one file of weights at most, unless a single tensor
    is larger. Returns what was written. UserError if there is something at that place,
    or if the format can't express the model or its tokenizer.
    """
    if format not in FORMATS:
        raise UserError(f"format = {format!r}{nearest(format, FORMATS)}")
    run = Run(folder)
    source = run.read_info().get("source") or {}
    dtype = dtype or source.get("dtype", "float32")
    if format == "gguf":
        target = _gguf_path(target, folder, dtype)
    _check_free(target)
    if is_scorer(run.model):
        raise UserError(
            f"{folder} is a reward model, which gives scores and can't write; export a "
            "run that it has judged"
        )
    model, tokenizer = load_run(folder, "cpu")
    if (rounded := quantization_of(model)) is not None:
        raise UserError(
            f"{folder} is quantized to {rounded.bits} bits; export the run that it was "
            "made from"
        )
    if format == "gguf":
        name = folder.resolve().name
        kind = write_gguf(model, tokenizer, target, name=name, dtype=dtype, say=say)
        say(f"{target}: {kind.name}, {dtype}")
        return target
    imported = {"family": source.get("family"), "ends": source.get("eos_token_id")}
    with staged(target) as staging:
        place = staging if format == "hf" else write_space(run, tokenizer, staging)
        options = imported | {"dtype": dtype, "shard": shard}
        values = write_hf(model, tokenizer, place, **options)
        card = model_card(run, values, model.config, tokenizer)
        write_atomically(place / "README.md", card)
    say(f"{target}: {values['model_type']}, {dtype}")
    return target


def _gguf_path(target: Path, folder: Path, dtype: str) -> Path:
    """A file as named, or one in the folder named."""
    if target.suffix == ".gguf":
        return target
    return target / f"{folder.resolve().name}-{dtype}.gguf"


def _check_free(target: Path) -> None:
    if target.is_file():
        raise UserError(f"{target} is there already; remove it or choose another name")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty; remove it or choose another folder")
