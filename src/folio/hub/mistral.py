"""Mistral (Jiang et al. 2023): Llama whose layers all have a sliding window."""

from __future__ import annotations

from typing import Any

from folio.hub.family import Family
from folio.hub.keys import Keys
from folio.hub.llama import FIELDS, llama_table, read_parts, write_parts
from folio.model.config import ModelConfig


def read_window(keys: Keys, default: int | None) -> dict[str, Any]:
    """One window for every layer, or none. A null says none, a missing key `default`.

    (The one key whose null and absence differ: Mistral 0.2 gave its window up.)
    """
    if "sliding_window" not in keys.values:
        return {"window": default}
    return {"window": keys.take("sliding_window", int, None)}


def read(keys: Keys) -> dict[str, Any]:
    return read_parts(keys) | read_window(keys, default=4096)


def write(config: ModelConfig) -> dict[str, Any]:
    return write_parts(config) | {"sliding_window": config.window}


MISTRAL = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    table=llama_table(),
    fields=FIELDS,
    read=read,
    write=write,
)
