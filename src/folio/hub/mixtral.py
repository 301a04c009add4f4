"""Mixtral (Jiang et al. 2024): Mistral with experts in every layer."""

from __future__ import annotations

from typing import Any

from folio.hub.family import Family
from folio.hub.keys import Keys
from folio.hub.llama import FIELDS, LAYER, OURS, llama_table, read_parts, write_parts
from folio.hub.mistral import read_window
from folio.hub.names import STACK, Row
from folio.model.config import Experts, ModelConfig

MOE = f"{LAYER}.block_sparse_moe"
EXPERTS = f"{MOE}.experts.{{expert}}"
ROWS = (
    Row(f"{MOE}.gate.weight", f"{OURS}.moe.router.score.weight"),
    Row(f"{EXPERTS}.w1.weight", f"{OURS}.moe.experts.gate", STACK),
    Row(f"{EXPERTS}.w3.weight", f"{OURS}.moe.experts.up", STACK),
    Row(f"{EXPERTS}.w2.weight", f"{OURS}.moe.experts.down", STACK),
)


def read(keys: Keys) -> dict[str, Any]:
    experts = Experts(
        count=keys.take("num_local_experts", int),
        active=keys.take("num_experts_per_tok", int),
        width=keys.take("intermediate_size", int),
        balance=keys.take("router_aux_loss_coef", float, 0.001),
    )
    parts = read_parts(keys, theta=1_000_000.0) | read_window(keys, default=None)
    return parts | {"experts": experts}


def write(config: ModelConfig) -> dict[str, Any]:
    experts = config.experts or Experts()
    return write_parts(config) | {
        "intermediate_size": config.expert_width if config.experts else config.ff_width,
        "num_local_experts": experts.count,
        "num_experts_per_tok": experts.active,
        "router_aux_loss_coef": experts.balance,
        "sliding_window": config.window,
    }


MIXTRAL = Family(
    name="mixtral",
    architecture="MixtralForCausalLM",
    table=llama_table(*ROWS),
    fields=FIELDS,
    read=read,
    write=write,
)
