"""Hugging Face in and out: configurations and weights, by the families' tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from folio.config import UserError
from folio.hub.effect import differences, refusal
from folio.hub.family import Family
from folio.hub.gemma import GEMMA, GEMMA2
from folio.hub.gpt2 import GPT2
from folio.hub.llama import LLAMA
from folio.hub.mistral import MISTRAL
from folio.hub.mixtral import MIXTRAL
from folio.hub.names import Source, to_ours, to_theirs
from folio.hub.qwen import QWEN2, QWEN3, QWEN3_MOE
from folio.model.config import ModelConfig
from folio.model.count import count_parameters
from folio.model.decoder import Decoder
from folio.model.store import model_tensors

# In the order in which an export tries them
FAMILIES = {
    family.name: family
    for family in (
        GPT2,
        LLAMA,
        MISTRAL,
        QWEN2,
        QWEN3,
        MIXTRAL,
        QWEN3_MOE,
        GEMMA,
        GEMMA2,
    )
}
MOST_PARAMETERS = 2**46  # 70 trillion; beyond is a damaged or a malicious file
MOST_POSITIONS = 2**31  # the longest published context has 10 million


def config_from_hf(values: dict[str, Any]) -> tuple[ModelConfig, Family]:
    """Our configuration of a parsed config.json, and the family it is of.

    Raises UserError for an unknown family, for an option that Folio can't honor, and
    for a key that it doesn't know: nothing is ignored that might change a logit.
    What only training feels (dropout, how weights begin) is not taken over.
    """
    name = values.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(
            f"model_type = {name!r}: Folio imports {', '.join(sorted(FAMILIES))}"
        )
    family = FAMILIES[name]
    config = family.config(values)
    total = count_parameters(config)["total"]
    if total > MOST_PARAMETERS:
        raise UserError(f"a model of {total} parameters: is the configuration damaged?")
    if config.max_seq_len > MOST_POSITIONS:
        raise UserError(
            f"a context of {config.max_seq_len}: is the configuration damaged?"
        )
    return config, family


def config_to_hf(
    config: ModelConfig, family: Family | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """The config.json of a model, in `family` or in the first that can express it.

    A family can, if reading back what it writes gives a model that computes the same.
    If none can, UserError names an option that stands in the way.
    """
    families = [family] if family else list(FAMILIES.values())
    lacks: dict[str, set[str]] = {}
    for candidate in families:
        values = candidate.values(config)
        try:
            found = candidate.config(values)
        except UserError as error:
            reason = error
            continue
        lacks[candidate.name] = differences(config, found)
        if not lacks[candidate.name]:
            return values | {"dtype": dtype, "use_cache": True}
    if not lacks:
        raise reason
    raise UserError(refusal(config, lacks, "Hugging Face family"))


def tensors_from_hf(
    family: Family,
    config: ModelConfig,
    source: Source,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """All weights under our names, in `dtype` or as they are stored.

    Read and changed one at a time (or one layer's experts), so that a large model is
    in memory once. Raises UserError for a missing, unexpected or misshapen tensor.
    """
    return {
        name: tensor.to(dtype or tensor.dtype).contiguous()
        for name, tensor in to_ours(family.table, config, source)
    }


def tensors_to_hf(family: Family, model: Decoder) -> dict[str, Tensor]:
    """All weights under their names, on the CPU, in the model's own dtype."""
    return to_theirs(family.table, model.config, model_tensors(model))
