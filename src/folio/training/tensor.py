"""Tensor parallelism: one layer's matrices cut over ranks that read the same batch.

The first matrix of a pair is cut by outputs and the second by inputs, so that what lies
between them, heads or features, never meets; one sum puts the results together
(Shoeybi et al. 2019, Megatron-LM, section 3). Norms, embeddings, routers and experts
are whole on each rank, and each computes the same with them.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from folio.config import UserError
from folio.model.attention import Attention
from folio.model.latent import LatentAttention
from folio.model.lora import lora_layers
from folio.model.mlp import GatedMLP, PlainMLP


def cut_layers(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut every attention and feed-forward part of `model` over a mesh of one axis.

    UserError for what can't be cut evenly, or at all; then nothing is changed.
    """
    count = mesh.size()
    if lora_layers(model):
        raise UserError(f"parallel.tensor = {count}: not with [lora]; set it to 1")
    plan: dict[str, ParallelStyle] = {}
    for name, module in model.named_modules():
        if isinstance(module, LatentAttention):
            raise UserError(
                f"parallel.tensor = {count}: not with [model.latent], whose latent all "
                "heads share; set it to 1"
            )
        if isinstance(module, Attention):
            _check(count, "model.n_heads", module.n_heads)
            _check(count, "model.n_kv_heads", module.n_kv_heads)
            plan |= _attention_plan(name, module)
        elif isinstance(module, (GatedMLP, PlainMLP)):
            _check(count, "model.d_ff", module.up.out_features)
            plan |= _mlp_plan(name, module)
    parallelize_module(model, mesh, plan)
    for module in model.modules():
        if isinstance(module, Attention):  # its own heads are all that it knows of
            module.n_heads //= count
            module.n_kv_heads //= count


def _check(count: int, field: str, value: int) -> None:
    if value % count:
        raise UserError(
            f"{field} = {value}: can't be cut into parallel.tensor = {count} equal "
            "parts; choose a divisor"
        )


def _attention_plan(name: str, module: Attention) -> dict[str, ParallelStyle]:
    """Queries, keys and values by heads; what the heads say is summed by `out`."""
    plan: dict[str, ParallelStyle] = {
        f"{name}.{part}": ColwiseParallel() for part in ("query", "key", "value")
    }
    plan[f"{name}.out"] = RowwiseParallel()
    if module.query_norm is not None:
        # They see some heads only (dimension 1), so their gradients must be summed.
        for part in ("query_norm", "key_norm"):
            plan[f"{name}.{part}"] = SequenceParallel(
                sequence_dim=1, use_local_output=True
            )
    return plan


def _mlp_plan(name: str, module: GatedMLP | PlainMLP) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {f"{name}.down": RowwiseParallel()}
    for part in ("gate", "up"):
        if hasattr(module, part):
            plan[f"{name}.{part}"] = ColwiseParallel()
    return plan
