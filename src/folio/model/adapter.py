"""LoRA on disk, in PEFT's layout: adapter_config.json, adapter_model.safetensors.

The small file that a fine-tuning leaves. PEFT (Hugging Face) calls the matrices of
the layer NAME `base_model.model.NAME.lora_A.weight` and `...lora_B.weight`; whoever
gives the layers the names of another library writes a file for that library.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from folio.config import UserError
from folio.files import write_atomically
from folio.model.decoder import Decoder
from folio.model.lora import LoRA, LoRALinear, add_lora, lora_layers

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# What PEFT writes besides that leaves the numbers as they are. Which layers have an
# update is read off the tensors' names, whatever pattern chose them.
HARMLESS = {
    *("peft_type", "peft_version", "task_type", "inference_mode", "auto_mapping"),
    *("base_model_name_or_path", "revision", "r", "lora_alpha", "lora_dropout"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("init_lora_weights", "bias", "megatron_core", "qalora_group_size"),
}
STARTS = (None, True, False, "gaussian", "eva")  # others change the frozen weights


def adapter_parameters(layers: dict[str, LoRALinear]) -> dict[str, Tensor]:
    """The updates by name, such as `blocks.0.attention.query.lora_A.weight`."""
    return {
        f"{name}.{part}.weight": getattr(layer, part).weight
        for name, layer in layers.items()
        for part in ("lora_A", "lora_B")
    }


def adapter_tensors(model: Decoder) -> dict[str, Tensor]:
    """Those of all LoRA layers of `model`, on the CPU."""
    updates = adapter_parameters(lora_layers(model))
    return {name: t.detach().cpu().contiguous() for name, t in updates.items()}


def save_adapter(
    model: Decoder,
    folder: str | Path,
    *,
    rename: Callable[[str], str] = lambda name: name,
    base: str | None = None,
) -> None:
    """Write the updates of `model` into `folder`.

    `rename` gives a layer's name in the library that is to read the file, `base` where
    that library finds the model itself.
    """
    layers, folder = lora_layers(model), Path(folder)
    tensors = {}
    for name, tensor in adapter_tensors(model).items():
        layer, part, weight = name.rsplit(".", 2)
        tensors[f"{PREFIX}{rename(layer)}.{part}.{weight}"] = tensor
    options = next(iter(layers.values())).options
    config = {
        "peft_type": "LORA",
        "task_type": base and "CAUSAL_LM",  # PEFT asks such models for more methods
        "base_model_name_or_path": base,
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": [rename(name) for name in layers],
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, save(tensors))
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_adapter(model: Decoder, folder: str | Path) -> None:
    """Add the updates in `folder` to `model`, in place, as `add_lora` would.

    Reads what `save_adapter` or PEFT wrote for a model with our names. A kind of LoRA
    that isn't ours, or a missing, extra or misshapen tensor is a UserError.
    """
    folder = Path(folder)
    config, tensors = read_config(folder), _read_tensors(folder)
    names = sorted({name.rsplit(".", 2)[0] for name in tensors})
    try:
        options = LoRA(
            rank=config["r"],
            alpha=float(config["lora_alpha"]),
            targets=tuple(names),
            dropout=float(config.get("lora_dropout") or 0.0),
        )
        add_lora(model, options)
        load_updates(model, tensors)
    except UserError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit the model: {error}") from None


def with_adapter(base: Decoder, folder: str | Path) -> Decoder:
    """Another decoder with the updates in `folder`, beside the very weights of `base`.

    Only the updates take memory. The weights of both are frozen, for they are shared.
    """
    shared = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    model = copy.deepcopy(base, shared)  # a copy of all but these
    load_adapter(model, folder)
    return model.eval()


@torch.no_grad()
def load_updates(model: Decoder, tensors: dict[str, Tensor]) -> None:
    """Fill the LoRA layers of `model` from what `adapter_tensors` gave."""
    expected = adapter_tensors(model)
    if different := sorted(expected.keys() ^ tensors.keys()):
        side = "missing" if different[0] in expected else "unexpected"
        raise UserError(f"{different[0]} is {side}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{name} has shape {tuple(tensor.shape)}, not "
                f"{tuple(expected[name].shape)}"
            )
        model.get_parameter(name).copy_(tensor)


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, checked to be plain LoRA."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} holds no adapter: {CONFIG} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"{path}: not a LoRA adapter (peft_type is not 'LORA')")
    for name in ("r", "lora_alpha"):
        if not isinstance(config.get(name), (int, float)):
            raise UserError(f"{path}: {name} = {config.get(name)!r}: expected a number")
    special = [name for name in config if config[name] and name not in HARMLESS]
    if config.get("bias", "none") != "none":
        special.append("bias")
    if config.get("init_lora_weights") not in STARTS:
        special.append("init_lora_weights")
    if special:
        name = special[0]
        raise UserError(
            f"{path}: {name} = {config[name]!r} is not supported: Folio knows plain "
            "LoRA; merge the adapter with the library that made it"
        )
    return config


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder} holds no adapter: {WEIGHTS} is missing")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    for name in tensors:
        if not name.startswith(PREFIX):
            raise UserError(f"{path}: {name!r} does not begin with {PREFIX!r}")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
