"""Runs that start from another run: its weights, its shape, its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from folio.config import UserError, build, merge, parse_overrides, read_toml
from folio.model import adapter
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.lora import fold_lora
from folio.model.store import load_config, load_model, load_tensors, model_tensors
from folio.training.run import Run

T = TypeVar("T")


# ---- what a recipe takes from its parent ---------------------------------------------


def load_recipe(schema: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """The recipe in `path`, the command line's overrides on top, its parent filled in.

    For any stage whose recipe has `parent`, `model` and `tokenizer`.
    """
    values = merge(read_toml(path), parse_overrides(overrides))
    return build(schema, with_parent(values))


def with_parent(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's tables, with [model] and [tokenizer] as its parent has them.

    What the recipe says of its own must agree; only dropout may be another.
    """
    parent, own = values.get("parent"), values.get("tokenizer", {})
    if parent is None:
        return values
    if own and own.get("path") != parent:
        key = next(iter(own))
        raise UserError(
            f"tokenizer.{key} = {own[key]!r}, but the tokenizer is that of parent = "
            f"{parent!r}; leave [tokenizer] out"
        )
    config = load_config(_parent_model(parent))
    given = build(ModelConfig, merge(asdict(config), values.get("model", {})), "model")
    _check_same(given, config, parent)
    return values | {"model": asdict(given), "tokenizer": own | {"path": parent}}


def _parent_model(parent: str) -> Path:
    """The model folder of the run that a recipe names."""
    folder = Run(Path(parent)).model
    if not Path(parent).is_dir():
        raise UserError(f"parent = {parent!r}: no such run")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise UserError(f"parent = {parent!r} holds no run: no model/{name}")
    return folder


def _check_same(given: ModelConfig, config: ModelConfig, parent: str) -> None:
    """A shape may differ from the parent's in dropout alone."""
    for field in fields(ModelConfig):
        ours, theirs = getattr(given, field.name), getattr(config, field.name)
        if field.name != "dropout" and ours != theirs:
            raise UserError(
                f"model.{field.name} = {ours!r}, but parent = {parent!r} has "
                f"{theirs!r}; leave [model] out, or all of it but dropout"
            )


# ---- weights -------------------------------------------------------------------------


def parent_model(parent: str, config: ModelConfig) -> Decoder:
    """A decoder of the shape `config`, with the weights of the run `parent`."""
    theirs = load_decoder(Path(parent))
    _check_same(config, theirs.config, parent)
    model = Decoder(replace(theirs.config, dropout=config.dropout))
    load_tensors(model, model_tensors(theirs))
    return model


def load_decoder(folder: Path, device: torch.device | str = "cpu") -> Decoder:
    """The model that a run made, in evaluation mode; LoRA is merged into its base."""
    run = Run(folder)
    if not is_lora(run):
        return load_model(run.model, device)
    model = load_with_updates(run)
    fold_lora(model)
    return model.to(device).eval()


def load_with_updates(run: Run) -> Decoder:
    """The model of a LoRA run as it was trained: updates beside the base's weights."""
    model = load_decoder(base_of(run))
    adapter.load_adapter(model, run.model)
    return model


def is_lora(run: Run) -> bool:
    """Does the run hold updates of another run's weights?"""
    return (run.model / adapter.CONFIG).is_file()


def base_of(run: Run) -> Path:
    """The run whose weights a LoRA run updates, known by their fingerprint.

    It is looked for where it was, and beside the run: folders of runs may move.
    """
    recorded = run.read_info().get("parent")
    if not recorded:
        raise UserError(f"{run.info} names no parent, whose weights {run.folder} needs")
    was = Path(recorded["path"])
    places = [place for place in (was, run.folder.parent / was.name) if place.is_dir()]
    for place in places:
        if fingerprint(place) == recorded["fingerprint"]:
            return place
    wrong = f"{was} is not there"
    if places:
        wrong = f"{places[0]} has other weights now (was it trained on?)"
    raise UserError(
        f"{run.folder} holds LoRA updates of the weights of {was}, but {wrong}; "
        "bring those back to that place, or beside the run"
    )


def fingerprint(folder: Path) -> str:
    """The sha256 of the files that decide a run's weights; of LoRA, its base too."""
    run = Run(folder)
    names = ("model.safetensors",)
    if is_lora(run):
        names = (adapter.CONFIG, adapter.WEIGHTS)
    digest = hashlib.sha256()
    for name in names:
        if not (run.model / name).is_file():
            raise UserError(f"{folder} holds no weights: no model/{name}")
        with open(run.model / name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    if is_lora(run):
        recorded = run.read_info().get("parent") or {}
        digest.update(recorded.get("fingerprint", "").encode())
    return digest.hexdigest()


def note_parent(run: Run, parent: str | None, *, lora: bool) -> None:
    """Record a run's parent when it begins; when it goes on with LoRA, check it.

    Snapshots of LoRA hold the updates alone, so they need the very weights that these
    belong to. Other runs have all of their weights in each snapshot.
    """
    if parent is None:
        return
    found = {"path": parent, "fingerprint": fingerprint(Path(parent))}
    recorded = run.read_info().get("parent")
    if recorded is None:
        run.update_info(parent=found)
    elif lora and recorded["fingerprint"] != found["fingerprint"]:
        raise UserError(
            f"parent = {parent!r} has other weights than when {run.folder} began (was "
            "it trained on?); bring those back, or start a new run with --run"
        )
