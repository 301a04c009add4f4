"""Tensor parallelism: one layer's matrices cut over ranks that read the same batch.

The first matrix of a pair is cut by outputs and the second by inputs, so that what lies
between them, heads or features, never meets; one sum puts the results together
(Shoeybi et al. 2019, Megatron-LM, section 3). Norms, embeddings, routers and experts
are whole on each rank, and each computes the same with them.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
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
    updated = lora_layers(model)
    for layer in updated.values():
        if layer.options.dropout:
            raise UserError(
                f"parallel.tensor = {count}: not with lora.dropout ="
                f" {layer.options.dropout}, of which each rank would draw its own:"
                " leave it out"
            )
    plan: dict[str, ParallelStyle] = {}
    for name, module in model.named_modules():
        if isinstance(module, LatentAttention):
            _check(count, "model.n_heads", module.n_heads)
            plan |= _latent_plan(name)
        elif isinstance(module, Attention):
            _check(count, "model.n_heads", module.n_heads)
            _check(count, "model.n_kv_heads", module.n_kv_heads)
            plan |= _attention_plan(name, module)
        elif isinstance(module, (GatedMLP, PlainMLP)):
            _check(count, "model.d_ff", module.up.out_features)
            plan |= _mlp_plan(name, module)
    for name in plan.keys() & updated.keys():
        plan[name] = CutUpdate(by_outputs=isinstance(plan[name], ColwiseParallel))
    parallelize_module(model, mesh, plan)
    for module in model.modules():
        if isinstance(module, (Attention, LatentAttention)):
            module.n_heads //= count  # its own heads are all that it knows of
        if isinstance(module, Attention):
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


def _latent_plan(name: str) -> dict[str, ParallelStyle]:
    """By heads, too, but for what all of them share: the latents and one rotary key."""
    plan: dict[str, ParallelStyle] = {
        f"{name}.{part}": ColwiseParallel() for part in ("query", "key", "value")
    }
    plan[f"{name}.rotary_key"] = SummedGradient()
    plan[f"{name}.out"] = RowwiseParallel()
    return plan


def _mlp_plan(name: str, module: GatedMLP | PlainMLP) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {f"{name}.down": RowwiseParallel()}
    for part in ("gate", "up"):
        if hasattr(module, part):
            plan[f"{name}.{part}"] = ColwiseParallel()
    return plan


class SummedGradient(ParallelStyle):
    """A layer that is whole on each rank, of which each rank's heads make use.

    Forward it is itself; backward, what the heads ask of it is summed over the ranks
    (Megatron-LM's operator f).
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def summed(_module: nn.Module, _inputs: tuple, y: Tensor) -> Tensor:
            whole = DTensor.from_local(y, device_mesh, [Replicate()], run_check=False)
            return whole.to_local(grad_placements=[Partial()])

        module.register_forward_hook(summed)
        return module


class CutUpdate(ParallelStyle):
    """A layer with a low-rank update, W + B A, cut as the layer alone would be.

    By outputs, B is cut as W is, and A is whole on each rank; by inputs, A is cut and B
    whole. What one rank lacks of a sum, or of a gradient, DTensor adds up.
    """

    def __init__(self, by_outputs: bool):
        super().__init__()
        whole = Replicate()
        if by_outputs:
            self.enters, self.leaves = whole, Shard(-1)
            self.cuts = {"weight": Shard(0), "bias": Shard(0)}
            self.cuts |= {"lora_A.weight": whole, "lora_B.weight": Shard(0)}
        else:
            self.enters, self.leaves = Shard(-1), whole
            self.cuts = {"weight": Shard(1), "bias": whole}
            self.cuts |= {"lora_A.weight": Shard(1), "lora_B.weight": whole}

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        for name, parameter in list(module.named_parameters()):
            outer, _, last = name.rpartition(".")
            part = distribute_tensor(parameter, device_mesh, [self.cuts[name]])
            part = nn.Parameter(part, requires_grad=parameter.requires_grad)
            module.get_submodule(outer).register_parameter(last, part)
        return distribute_module(module, device_mesh, None, self._enter, self._leave)

    def _enter(self, _module: nn.Module, inputs: tuple, mesh: DeviceMesh) -> DTensor:
        return DTensor.from_local(inputs[0], mesh, [self.enters], run_check=False)

    def _leave(self, _module: nn.Module, y: DTensor, _mesh: DeviceMesh) -> Tensor:
        return y.redistribute(placements=[self.leaves]).to_local()
