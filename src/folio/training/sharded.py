"""Each rank keeps a part of every weight (FSDP2), and maybe of every layer's work.

From outside the model, in this order: layers are cut over ranks that share a batch
(`folio.training.tensor`), blocks are recomputed (`Decoder.checkpoint_layers`) and
compiled, and last every block's weights are spread over the ranks that read different
data. A block's weights come together when it computes, and part again after it; its
gradients are summed where their part of the weights is (Rajbhandari et al. 2020, ZeRO;
Zhao et al. 2023, FSDP).
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from folio.model.decoder import Block
from folio.model.store import fill, stored
from folio.runtime import rank, rank_mesh
from folio.training.cuts import Cut, cuts_of, gathered, local, part
from folio.training.parallel import Alone
from folio.training.tensor import cut_layers


class Sharded(Alone):
    """`module` is a copy of the model of which each rank has a part.

    `model` stays what everybody knows, a plain module, but lends its weights no memory:
    between `gather` and `release` it is whole on the first rank, or on all of them
    (`everywhere`), where each rank writes with it.

    What the optimizer sees are plain tensors, this rank's parts in the same memory as
    the module's. So an optimizer that works number by number needs to know nothing.
    """

    split = True

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        *,
        compiled: bool = False,
        everywhere: bool = False,
        dtype: torch.dtype | None = None,
    ):
        """dtype: what weights are rounded to before they are sent and compute; parts
        and sums of gradients stay as they are."""
        self.model = model
        self.mesh, self._device = rank_mesh(), device
        self.module = self.forward = copy.deepcopy(model)
        if self.mesh["tensor"].size() > 1:
            cut_layers(self.module, self.mesh["tensor"])
        policy = MixedPrecisionPolicy(dtype, dtype and torch.float32)
        blocks = [each for each in self.module.modules() if isinstance(each, Block)]
        for block in blocks:
            if compiled:
                block.compile()
            fully_shard(block, mesh=self.mesh["data"], mp_policy=policy)
        fully_shard(self.module, mesh=self.mesh["data"], mp_policy=policy)
        # Of outputs that somebody might write into: objectives are pure functions
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
        self.shards = dict(self.module.named_parameters())
        self.parts = {
            name: nn.Parameter(local(shard.detach()), shard.requires_grad)
            for name, shard in self.shards.items()
        }
        self.cuts = {name: cuts_of(shard) for name, shard in self.shards.items()}
        self._axes = {
            mine: tuple(cut.axis for cut in self.cuts[name])
            for name, mine in self.parts.items()
        }
        self.everywhere, self.whole_here = everywhere, everywhere or rank() == 0
        for parameter in model.parameters():  # no view: memory comes and goes with it
            parameter.data = parameter.data.clone()
        if self.whole_here:
            model.to(device)
        else:
            self.release()

    @property
    def device(self) -> torch.device:
        return self._device

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self.parts.items()

    @contextlib.contextmanager
    def accumulate(self) -> Iterator[None]:
        self.module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)

    def gradients(self) -> list[nn.Parameter]:
        found = []
        for name, shard in self.shards.items():
            if shard.grad is not None:
                self.parts[name].grad = local(shard.grad)
                shard.grad = None
                found.append(self.parts[name])
        return found

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Of parts of the gradient each is counted once, wherever it lies."""
        alike: dict[tuple[str, ...], list[Tensor]] = {}
        for parameter in parameters:
            alike.setdefault(self._axes[parameter], []).append(parameter.grad)
        total = torch.zeros((), device=self.device)
        for axes, gradients in alike.items():
            square = nn.utils.get_total_norm(gradients).float().square()
            for axis in axes:
                dist.all_reduce(square, group=self.mesh.get_group(axis))
            total += square
        return total.sqrt()

    @torch.no_grad()
    def gather(self) -> None:
        """Tensor by tensor, so that no more than one of them is in memory besides."""
        for name, parameter in self.model.named_parameters():
            cuts, mine = self.cuts[name], self.parts[name].detach()
            whole = gathered(mine, cuts, parameter.shape)
            if self.whole_here:
                storage = parameter.untyped_storage()
                storage.resize_(parameter.nbytes)
                parameter.copy_(whole)
        pairs = zip(self.model.buffers(), self.module.buffers(), strict=True)
        for buffer, newest in pairs:
            buffer.copy_(newest)

    def release(self) -> None:
        if self.everywhere:
            return
        for parameter in self.model.parameters():
            parameter.untyped_storage().resize_(0)

    def cuts_like(self, name: str, shape: torch.Size) -> list[Cut]:
        """How a tensor that belongs to a parameter is cut: as it is, if of its shape.

        Counters are not, and buffers aren't either.
        """
        shard = self.shards.get(name)
        return self.cuts[name] if shard is not None and shard.shape == shape else []

    def part(self, name: str, whole: Tensor) -> Tensor:
        return part(whole, self.cuts_like(name, whole.shape))

    def whole_size(self, name: str, mine: Tensor) -> int:
        """How many numbers `whole` will give: the same on all ranks."""
        belongs = name in self.parts and mine.shape == self.parts[name].shape
        return self.shards[name].numel() if belongs else mine.numel()

    def whole(self, name: str, mine: Tensor) -> Tensor:
        """The contrary of `part`; all ranks at once."""
        shard = self.shards.get(name)
        if shard is None or mine.shape != self.parts[name].shape:
            return mine
        return gathered(mine, self.cuts[name], shard.shape)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take this rank's parts of a model's stored tensors."""
        mine = {name: local(x.detach()) for name, x in stored(self.module).items()}
        fill(mine, {n: self.part(n, whole).clone() for n, whole in tensors.items()})
