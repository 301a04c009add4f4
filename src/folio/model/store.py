"""A model on disk: config.json and model.safetensors, nothing that can run code.

With LoRA, only the updates are stored: the other weights are those of the model they
belong to (see `folio.model.adapter`). A `Scorer` lies in the same two files; what it is
besides its trunk stands in config.json under "scorer".
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from folio.config import UserError, build
from folio.files import write_atomically
from folio.model.adapter import adapter_parameters, load_updates, save_adapter
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.lora import lora_layers
from folio.model.quantize import (
    Quantization,
    make_quantized,
    quantization_of,
    tie_to_head,
)
from folio.model.scorer import Scorer, ScorerConfig


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights by name, on the CPU: a tied head once, of LoRA only the updates."""
    tensors = stored(model)
    return {n: t.detach().to("cpu").contiguous() for n, t in tensors.items()}


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """What of a model is stored: the tensors themselves, by name.

    Models around a decoder (a scorer, a policy with its critic) are taken apart.
    """
    if isinstance(model, Decoder):
        if layers := lora_layers(model):
            return adapter_parameters(layers)
        state = model.state_dict()
        if model.config.tie_embeddings:
            state.pop(_tied_copy(model), None)  # a scorer's trunk has no head
        return state
    tensors = dict(model.named_parameters(recurse=False))
    for child, part in model.named_children():
        tensors |= {f"{child}.{name}": t for name, t in stored(part).items()}
    return tensors


def _tied_copy(model: Decoder) -> str:
    """Which of two tied matrices is not stored; of a quantized pair, the head is."""
    return "head.weight" if quantization_of(model) is None else "embedding.weight"


def load_tensors(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Fill `model` with `tensors`; a missing, extra or misshapen one is an error."""
    if isinstance(model, Decoder) and lora_layers(model):
        load_updates(model, tensors)
        return
    fill(stored(model), tensors)
    if isinstance(model, Decoder) and quantization_of(model) is not None:
        tie_to_head(model)


def fill(expected: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    """Copy each tensor into the one of its name; UserError unless all fit."""
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise UserError(
            f"weights do not fit the model: missing {sorted(missing)[:3]}, "
            f"unexpected {sorted(extra)[:3]}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"weight {name!r} has shape {tuple(tensor.shape)}, the model needs "
                f"{tuple(expected[name].shape)}"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            expected[name].copy_(tensor)


def save_model(model: Decoder | Scorer, folder: str | Path) -> None:
    """Write config.json and model.safetensors, or LoRA's files, into `folder`."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} can't be a folder: a file has that name") from None
    if lora_layers(model):
        save_adapter(model, folder)
    else:
        write_atomically(folder / "model.safetensors", save(model_tensors(model)))
    if isinstance(model, Scorer):
        scorer = {"scorer": dataclasses.asdict(model.config)}
        values = dataclasses.asdict(model.shape) | scorer
    else:
        values = dataclasses.asdict(model.config)
    if (rounded := quantization_of(model)) is not None:
        values["quantization"] = dataclasses.asdict(rounded)
    config = json.dumps(values, indent=2)
    write_atomically(folder / "config.json", config + "\n")


def load_model(folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
    """The decoder that `save_model` wrote, in evaluation mode and fp32."""
    config, weights = load_config(folder), Path(folder) / "model.safetensors"
    if not weights.is_file():  # said before a large model is made
        raise UserError(f"{folder} holds no model: {weights.name} is missing")
    model, rounded = Decoder(config), load_quantization(folder)
    if rounded is not None:
        make_quantized(model, rounded)
    _read_weights(model, weights)
    return model.to(device).eval()


def load_scorer(folder: str | Path, device: torch.device | str = "cpu") -> Scorer:
    """The reward model that `save_model` wrote, in evaluation mode and fp32."""
    folder = Path(folder)
    values = _read_values(path := folder / "config.json")
    if "scorer" not in values:
        raise UserError(f"{path}: a language model; only a reward model has scores")
    shape, scorer = _built(path, values), values["scorer"]
    model = Scorer(Decoder(shape), build(ScorerConfig, scorer, "scorer"))
    _read_weights(model, folder / "model.safetensors")
    return model.to(device).eval()


def is_scorer(folder: str | Path) -> bool:
    """Does the folder hold a reward model?"""
    path = Path(folder) / "config.json"
    return path.is_file() and "scorer" in _read_values(path)


def _read_weights(model: nn.Module, weights: Path) -> None:
    if not weights.is_file():
        raise UserError(f"{weights.parent} holds no model: {weights.name} is missing")
    try:
        load_tensors(model, load_file(weights))
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged: {error}") from None
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None


def load_config(folder: str | Path) -> ModelConfig:
    """The shape of the language model in `folder`."""
    values = _read_values(path := Path(folder) / "config.json")
    if "scorer" in values:
        raise UserError(f"{path}: a reward model, which gives scores and can't write")
    return _built(path, values)


def _built(path: Path, values: dict[str, Any]) -> ModelConfig:
    apart = ("quantization", "scorer")
    values = {name: value for name, value in values.items() if name not in apart}
    try:
        config = build(ModelConfig, values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if config.vocab_size < 1:
        raise UserError(f"{path}: vocab_size = {config.vocab_size}: a model has one")
    return config


def load_quantization(folder: str | Path) -> Quantization | None:
    """How the weights in `folder` were rounded; None: they weren't."""
    values = _read_values(path := Path(folder) / "config.json").get("quantization")
    if values is None:
        return None
    if not isinstance(values, dict):
        raise UserError(f"{path}: quantization = {values!r}: expected an object")
    try:
        return build(Quantization, values, "quantization")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_values(path: Path) -> dict[str, Any]:
    """What config.json says."""
    if not path.is_file():
        raise UserError(f"{path.parent} holds no model: {path.name} is missing")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected an object with the fields of ModelConfig")
    return values
