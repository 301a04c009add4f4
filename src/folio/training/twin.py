"""Computing in half the bits without learning in half the bits.

A step of training changes a weight by a thousandth of itself or less, and bf16 keeps
three digits: added to a bf16 weight, most steps would be lost. So the weights that are
learned and saved stay in fp32, and a twin of the model, rounded anew before each step,
computes loss and gradients (Micikevicius et al. 2017, section 3.1). Where a policy
learns from what it says, the twin speaks, too: what is scored is what was sampled from.

Autocast rounds weights, too, but at every product again, and much stays in fp32 that
needn't: processors with units for bf16, as AMX, wait for that more than they compute.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


class Twin:
    """`model`, the twin of a model of fp32 `masters`; buffers are shared by both."""

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.bfloat16):
        self.model = copy.deepcopy(model)
        for twin, module in zip(self.model.modules(), model.modules(), strict=True):
            twin._buffers = module._buffers
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)
        self.masters = list(model.parameters())
        self.rounded = list(self.model.parameters())

    @torch.no_grad()
    def round(self) -> None:
        """Make the twin what the masters now are, but for rounding."""
        torch._foreach_copy_(self.rounded, self.masters)

    @torch.no_grad()
    def hand_over(self) -> None:
        """Add the twin's gradients to those of the masters, and empty them.

        After each micro-batch: sums of many are made in fp32.
        """
        for master, twin in zip(self.masters, self.rounded, strict=True):
            if twin.grad is None:
                continue
            if master.grad is None:
                master.grad = twin.grad.to(master.dtype)
            else:
                master.grad.add_(twin.grad)
            twin.grad = None
