"""A batch: named tensors, and the number their summed loss is divided by."""

from __future__ import annotations

import torch


class Batch(dict):
    """Named tensors plus `denominator`; `batch.inputs` is `batch["inputs"]`.

    An objective returns a *sum* over the batch. Dividing once, by the denominators
    added over micro-batches and ranks, is what makes accumulation and data
    parallelism exact: a mean of means is wrong as soon as two batches differ in size.

    >>> batch = Batch(6.0, inputs=torch.zeros(2, 3, dtype=torch.long))
    >>> batch
    Batch(inputs (2, 3) int64, denominator 6)
    >>> batch.inputs.shape, batch.denominator
    (torch.Size([2, 3]), 6.0)
    """

    def __init__(self, denominator: float, **tensors: torch.Tensor):
        for name in tensors:
            # `batch.values` would be the method of dict, not the tensor.
            if hasattr(dict, name) or name in ("denominator", "to"):
                raise ValueError(
                    f"a batch can't hold a tensor named {name!r}: the attribute is"
                    f" taken; rename it, for example 'old_{name}'"
                )
        super().__init__(tensors)
        self.denominator = float(denominator)

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"no tensor {name!r} in this batch; it has {', '.join(self)}"
            ) from None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`; from pinned memory the copies overlap."""
        moved = {
            name: tensor.to(device, non_blocking=tensor.is_pinned())
            for name, tensor in self.items()
        }
        return Batch(self.denominator, **moved)

    def __repr__(self) -> str:
        parts = [
            f"{name} {tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}"
            for name, t in self.items()
        ]
        return f"Batch({', '.join([*parts, f'denominator {self.denominator:g}'])})"
