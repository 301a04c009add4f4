"""A model on disk: config.json and model.safetensors, nothing that can run code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from folio.config import UserError, build
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.files import write_atomically


def model_tensors(model: Decoder) -> dict[str, torch.Tensor]:
    """The weights by name, on the CPU; a tied head is stored once."""
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in model.state_dict().items()
    }
    if model.config.tie_embeddings:
        del tensors["head.weight"]
    return tensors


def load_tensors(model: Decoder, tensors: dict[str, torch.Tensor]) -> None:
    """Fill `model` with `tensors`; a missing, extra or misshapen one is an error."""
    expected = model.state_dict()
    if model.config.tie_embeddings:
        del expected["head.weight"]
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


def save_model(model: Decoder, folder: str | Path) -> None:
    """Write config.json and model.safetensors into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "model.safetensors", save(model_tensors(model)))
    config = json.dumps(dataclasses.asdict(model.config), indent=2)
    write_atomically(folder / "config.json", config + "\n")


def load_model(folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
    """The decoder that `save_model` wrote, in evaluation mode."""
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no model: {name} is missing")
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'}: not valid JSON: {error}") from None
    model = Decoder(build(ModelConfig, values))
    try:
        load_tensors(model, load_file(folder / "model.safetensors"))
    except SafetensorError as error:
        raise UserError(f"{folder / 'model.safetensors'} is damaged: {error}") from None
    return model.to(device).eval()
