"""A model on disk: config.json and model.safetensors, nothing that can run code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from folio.config import UserError, build
from folio.files import write_atomically
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} can't be a folder: a file has that name") from None
    write_atomically(folder / "model.safetensors", save(model_tensors(model)))
    config = json.dumps(dataclasses.asdict(model.config), indent=2)
    write_atomically(folder / "config.json", config + "\n")


def load_model(folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
    """The decoder that `save_model` wrote, in evaluation mode and fp32."""
    config, weights = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    for path in (config, weights):
        if not path.is_file():
            raise UserError(f"{folder} holds no model: {path.name} is missing")
    model = _read_config(config)
    try:
        load_tensors(model, load_file(weights))
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged: {error}") from None
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None
    return model.to(device).eval()


def _read_config(path: Path) -> Decoder:
    """A fresh decoder of the shape in `path`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected an object with the fields of ModelConfig")
    try:
        return Decoder(build(ModelConfig, values))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
