"""`folio import` and `folio export`: a model of Hugging Face as a run, and back."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from folio import __version__
from folio.config import UserError, nearest
from folio.files import (
    TEMPORARY,
    exclusive,
    fsync_file,
    fsync_folder,
    remove_temporary,
    write_atomically,
)
from folio.hub.convert import (
    FAMILIES,
    config_from_hf,
    config_to_hf,
    tensors_from_hf,
    tensors_to_hf,
)
from folio.hub.folder import INDEX, SINGLE, ModelFolder, Weights
from folio.hub.tokenizer import read_tokenizer, token_ids, write_tokenizer
from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.model.quantize import quantization_of
from folio.runtime import git_commit, machine
from folio.stages.use import load_run
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

Say = Callable[[str], None]
FORMATS = ("hf",)
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
SHARD = 5 * 10**9  # bytes of one file at most, as the Hub likes it
GENERATION = "generation_config.json"


# ---- in ------------------------------------------------------------------------------


def import_model(
    source: Path, folder: Path, *, dtype: str = "float32", say: Say = print
) -> Run:
    """Make a run of a folder as `save_pretrained` writes it; nothing in it is run.

    Weights are kept in `dtype`. UserError, and no trace of a run, for a folder that
    is damaged, malicious, or of a model that can't be had exactly.
    """
    kept = _dtype(dtype)
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
        with _staged(run.model) as staging:
            _save_tensors(tensors, staging / SINGLE)
            _write_json(staging / "config.json", dataclasses.asdict(config))
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


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise UserError(f"dtype = {name!r}{nearest(name, list(DTYPES))}")
    return DTYPES[name]


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
    """Write a run's model so that `AutoModelForCausalLM.from_pretrained` reads it.

    `dtype`: what weights are written as; by default as an imported model had them, and
    else float32. Files are at most `shard` bytes, except for a single larger tensor.
    UserError if no family of Hugging Face has all of the model's options, or no
    tokenizer of theirs is like the run's.
    """
    if format not in FORMATS:
        raise UserError(f"format = {format!r}{nearest(format, FORMATS)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty; remove it or choose another folder")
    run = Run(folder)
    source = run.read_info().get("source") or {}
    dtype = dtype or source.get("dtype", "float32")
    kept = _dtype(dtype)
    model, tokenizer = load_run(folder, "cpu")
    if (rounded := quantization_of(model)) is not None:
        raise UserError(
            f"{folder} is quantized to {rounded.bits} bits; export the run that it was "
            "made from"
        )
    values = config_to_hf(model.config, FAMILIES.get(source.get("family")), dtype)
    tensors = tensors_to_hf(FAMILIES[values["model_type"]], model)
    tensors = {name: tensor.to(kept) for name, tensor in tensors.items()}
    ids = _with_other_ends(token_ids(tokenizer), source.get("eos_token_id"))
    with _staged(target) as staging:
        write_tokenizer(tokenizer, staging, model.config.max_seq_len)
        _write_json(staging / "config.json", values | ids)
        _write_json(staging / GENERATION, ids)
        _write_shards(tensors, staging, shard)
        card = model_card(folder.resolve().name, values, model.config, tokenizer)
        write_atomically(staging / "README.md", card)
    say(f"{target}: {values['model_type']}, {dtype}")
    return target


def _with_other_ends(ids: dict[str, Any], recorded: Any) -> dict[str, Any]:
    """Beside the ends that the tokenizer names, those that the imported model had."""
    ends = _as_list(ids.get("eos_token_id", []))
    ends += [i for i in _as_list(recorded) if type(i) is int and i not in ends]
    if ends:
        ids = ids | {"eos_token_id": ends[0] if len(ends) == 1 else ends}
    return ids


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _write_shards(tensors: Mapping[str, Tensor], folder: Path, largest: int) -> None:
    """One file, or several and the index that says what is where."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > largest:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        _save_tensors(shards[0], folder / SINGLE)
        return
    places = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _save_tensors(shard, folder / name)
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    _write_json(folder / INDEX, index)


def model_card(
    name: str, values: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer
) -> str:
    """README.md of an exported model: what it is and how it is loaded."""
    total = count_parameters(config)["total"]
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [folio]
---
# {name}

A language model of {total:,} parameters ({values["model_type"]}: {config.n_layers}
layers, {config.d_model} wide, up to {config.max_seq_len:,} tokens), exported by Folio
{__version__}. Its tokenizer has {tokenizer.vocab_size:,} tokens.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```
"""


# ---- files ---------------------------------------------------------------------------


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when all of it is written, or else nothing."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(
            tempfile.mkdtemp(prefix=f"{TEMPORARY}{target.name}-", dir=target.parent)
        )
    except OSError as error:
        raise UserError(f"could not write {target}: {error.strerror}") from None
    try:
        yield staging
        for path in staging.iterdir():
            fsync_file(path)
        fsync_folder(staging)
        os.chmod(staging, 0o755)
        os.replace(staging, target)
        fsync_folder(target.parent)
    except OSError as error:
        raise UserError(f"could not write {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A safetensors file; `format` is what `transformers` asks for."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except Exception as error:  # safetensors wraps the system's errors in its own
        raise UserError(f"could not write {path}: {error}") from None


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
