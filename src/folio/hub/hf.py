"""Writing a model as `AutoModelForCausalLM.from_pretrained` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from folio.config import UserError, nearest
from folio.hub.convert import FAMILIES, config_to_hf, tensors_to_hf
from folio.hub.tokenizer import token_ids, write_tokenizer
from folio.hub.written import save_shards, write_json
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
SHARD = 5 * 10**9  # bytes of one file at most, as the Hub likes it
GENERATION = "generation_config.json"


def dtype_named(name: str) -> torch.dtype:
    """The type of that name; UserError with the nearest one if there is none."""
    if name not in DTYPES:
        raise UserError(f"dtype = {name!r}{nearest(name, list(DTYPES))}")
    return DTYPES[name]


def write_hf(
    model: Decoder,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    dtype: str = "float32",
    shard: int = SHARD,
    family: str | None = None,
    ends: Any = None,
) -> dict[str, Any]:
    """Configuration, weights and tokenizer into `folder`; returns the configuration.

    `family` and `ends` are the model_type and the eos_token_id that an imported model
    had. UserError if no family has all of the model's options, or no tokenizer of
    theirs is like this one.
    """
    kept = dtype_named(dtype)
    values = config_to_hf(model.config, FAMILIES.get(family), dtype)
    tensors = tensors_to_hf(FAMILIES[values["model_type"]], model)
    ids = _with_other_ends(token_ids(tokenizer), ends)
    write_tokenizer(tokenizer, folder, model.config.max_seq_len)
    write_json(folder / "config.json", values | ids)
    write_json(folder / GENERATION, ids)
    save_shards({n: tensor.to(kept) for n, tensor in tensors.items()}, folder, shard)
    return values


def _with_other_ends(ids: dict[str, Any], recorded: Any) -> dict[str, Any]:
    """Beside the ends that the tokenizer names, those that the imported model had."""
    ends = _as_list(ids.get("eos_token_id", []))
    ends += [i for i in _as_list(recorded) if type(i) is int and i not in ends]
    if ends:
        ids = ids | {"eos_token_id": ends[0] if len(ends) == 1 else ends}
    return ids


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
