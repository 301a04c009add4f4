"""A model on disk: config.json and model.safetensors, nothing that can run code.

With LoRA, only the updates are stored: the other weights are those of the model they
belong to (see `folio.model.adapter`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from folio.config import UserError, build
from folio.files import write_atomically
from folio.model.adapter import adapter_tensors, load_updates, save_adapter
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.lora import lora_layers
from folio.model.quantize import (
    Quantization,
    make_quantized,
    quantization_of,
    tie_to_head,
)


def model_tensors(model: Decoder) -> dict[str, torch.Tensor]:
    """The weights by name, on the CPU: a tied head once, of LoRA only the updates."""
    if lora_layers(model):
        return adapter_tensors(model)
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in model.state_dict().items()
    }
    if model.config.tie_embeddings:
        del tensors[_tied_copy(model)]
    return tensors


def _tied_copy(model: Decoder) -> str:
    """Which of two tied matrices is not stored; of a quantized pair, the head is."""
    return "head.weight" if quantization_of(model) is None else "embedding.weight"


def load_tensors(model: Decoder, tensors: dict[str, torch.Tensor]) -> None:
    """Fill `model` with `tensors`; a missing, extra or misshapen one is an error."""
    if lora_layers(model):
        load_updates(model, tensors)
        return
    expected = model.state_dict()
    if model.config.tie_embeddings:
        del expected[_tied_copy(model)]
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
    if quantization_of(model) is not None:
        tie_to_head(model)


def save_model(model: Decoder, folder: str | Path) -> None:
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
    values = dataclasses.asdict(model.config)
    if (rounded := quantization_of(model)) is not None:
        values["quantization"] = dataclasses.asdict(rounded)
    config = json.dumps(values, indent=2)
    write_atomically(folder / "config.json", config + "\n")


def load_model(folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
    """The decoder that `save_model` wrote, in evaluation mode and fp32."""
    config, weights = load_config(folder), Path(folder) / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{folder} holds no model: {weights.name} is missing")
    model, rounded = Decoder(config), load_quantization(folder)
    try:
        if rounded is not None:
            make_quantized(model, rounded)
        load_tensors(model, load_file(weights))
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged: {error}") from None
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None
    return model.to(device).eval()


def load_config(folder: str | Path) -> ModelConfig:
    """The shape of the model in `folder`."""
    values = _read_values(path := Path(folder) / "config.json")
    values.pop("quantization", None)
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
