"""LoRA: fine-tune by adding a product of two thin matrices to frozen ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from folio.config import UserError, nearest
from folio.model.config import check_above_zero, check_at_least
from folio.model.moe import Experts


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates of some linear layers, while all else stays frozen.

    A target is the end of a layer's name, `*` standing for anything: "query",
    "attention.*", "blocks.0.mlp.down".
    """

    rank: int = 8  # r, the width of the thin matrices
    alpha: float = 16.0  # the update counts alpha / rank times
    targets: tuple[str, ...] = ("query", "value")
    dropout: float = 0.0  # of what goes into the update

    def __post_init__(self) -> None:
        check_at_least(self, 1, "rank")
        check_above_zero(self, "alpha")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout = {self.dropout}: must lie in [0, 1)")
        if not self.targets:
            raise UserError('targets = []: name some layers, such as "query", "value"')


class LoRALinear(nn.Linear):
    """y = W x + b + (alpha / r) B A x, with W and b frozen (Hu et al. 2021, eq. 3).

    Takes over the weights of `linear` under their old names. B begins as zero, so at
    the start nothing changes; A begins as torch begins a linear layer. Their names are
    those of PEFT's files.
    """

    def __init__(self, linear: nn.Linear, options: LoRA):
        inputs, outputs = linear.in_features, linear.out_features
        super().__init__(inputs, outputs, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.options, self.scale = options, options.alpha / options.rank
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.dropout = nn.Dropout(options.dropout)
        self.lora_A = nn.Linear(inputs, options.rank, bias=False, **like)
        self.lora_B = nn.Linear(options.rank, outputs, bias=False, **like)
        nn.init.zeros_(self.lora_B.weight)
        self.register_buffer("original", None, persistent=False)  # W, while merged

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        y = super().forward(x)
        if self.merged:
            return y
        return y + self.scale * self.lora_B(self.lora_A(self.dropout(x)))

    @property
    def merged(self) -> bool:
        """Does W hold the update already?"""
        return self.original is not None

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """W + (alpha / r) B A, (outputs, inputs), added in fp32 or better."""
        if self.merged:
            return self.weight.detach().clone()
        kind = torch.promote_types(self.weight.dtype, torch.float32)
        update = self.lora_B.weight.to(kind) @ self.lora_A.weight.to(kind)
        return (self.weight.to(kind) + self.scale * update).to(self.weight.dtype)


def target_layers(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers that `targets` name, in the model's order.

    Raises UserError for a target that names none, and for what can't have an update of
    its own: a tied head, embeddings, routers, stacked experts.
    """
    linears = {n: m for n, m in model.named_modules() if type(m) is nn.Linear}
    chosen = set()
    for target in targets:
        _refuse_special(model, target)
        found = {name for name in linears if _matches(name, target)}
        if not found:
            ends = {".".join(name.split(".")[-k:]) for name in linears for k in (1, 2)}
            raise UserError(
                f"targets has {target!r}, which names no linear layer"
                f"{nearest(target, sorted(ends))}"
            )
        chosen |= found
    return {name: layer for name, layer in linears.items() if name in chosen}


def _matches(name: str, target: str) -> bool:
    """
    >>> [_matches("blocks.0.attention.query", t) for t in ("query", "att*", "q")]
    [True, True, False]
    """
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")


def _refuse_special(model: nn.Module, target: str) -> None:
    """Some matrices can't have an update of their own."""
    reasons = {}
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            for weight in (
                name,
                *(f"{name}.{w}" for w, _ in module.named_parameters()),
            ):
                reasons[weight] = "the experts' weights are stacked, no linear layers"
        elif isinstance(module, nn.Embedding):
            reasons[name] = "it is a table, not a linear layer"
        elif isinstance(module, nn.Linear) and type(module) is not nn.Linear:
            reasons[name] = "it is no plain linear layer"
    if model.config.tie_embeddings:
        reasons["head"] = "the head is tied to the embedding, and would change it, too"
    for name, reason in reasons.items():
        if _matches(name, target):
            raise UserError(
                f"targets has {target!r}, which names {name}: {reason}; name other "
                'layers, such as "attention.*"'
            )


def add_lora(model: nn.Module, options: LoRA) -> None:
    """Put an update beside each targeted layer, in place, and freeze all else.

    Draws A from torch's global generator. The output stays what it was, bit for bit.
    """
    if lora_layers(model):
        raise ValueError("the model has LoRA layers already: fold_lora(model) first")
    layers = target_layers(model, options.targets)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name, linear in layers.items():
        _replace(model, name, LoRALinear(linear, options))


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Every layer with a low-rank update, by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoRALinear)}


def merge(model: nn.Module) -> None:
    """Add each update to its weight, in place: the same function, at no extra cost.

    The weights as they were are kept beside, for `unmerge`.
    """
    for layer in _some_lora(model):
        if not layer.merged:
            merged, layer.original = layer.merged_weight(), layer.weight.detach()
            layer.weight = nn.Parameter(merged, requires_grad=False)


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, bit for bit: nothing is subtracted, the old weights come back."""
    for layer in _some_lora(model):
        if layer.merged:
            layer.weight = nn.Parameter(layer.original, requires_grad=False)
            layer.original = None


def fold_lora(model: nn.Module) -> None:
    """Merge for good, in place: plain linear layers again, all of it trainable."""
    for name, layer in lora_layers(model).items():
        sizes = layer.in_features, layer.out_features
        linear = nn.Linear(*sizes, bias=layer.bias is not None, device="meta")
        linear.weight, linear.bias = nn.Parameter(layer.merged_weight()), layer.bias
        _replace(model, name, linear)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _some_lora(model: nn.Module) -> list[LoRALinear]:
    layers = list(lora_layers(model).values())
    if not layers:
        raise ValueError("the model has no LoRA layers: add_lora(model, ...) first")
    return layers


def _replace(model: nn.Module, name: str, layer: nn.Linear) -> None:
    outer, _, last = name.rpartition(".")
    setattr(model.get_submodule(outer), last, layer.train(model.training))
