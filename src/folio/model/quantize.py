"""Weights in 8 or 4 bits: a smaller model, for a small and measured loss of quality.

Only weights are rounded; activations stay as they are. A matrix is rounded row by
row, or group by group within a row, each with a step of its own, so that one large
weight doesn't coarsen all others.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.config import UserError
from folio.model.decoder import Decoder

GROUPS = (32, 64, 128, 256)  # those that PyTorch's 4-bit product knows


@dataclass(frozen=True)
class Quantization:
    """How the weights of a model were rounded."""

    bits: int = 8  # of the blocks' matrices; the head has 8 always
    group: int = 32  # weights that share a step; 4 bits only, 8 bits have one per row

    def __post_init__(self) -> None:
        if self.bits not in (8, 4):
            raise UserError(f"bits = {self.bits}: choose 8 or 4")
        if self.group not in GROUPS:
            known = ", ".join(map(str, GROUPS))
            raise UserError(f"group = {self.group}: choose one of {known}")


# ---- the arithmetic ------------------------------------------------------------------


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> codes int8 (N, K), scale fp32 (N,); weight ~ codes x scale.

    scale = max |row| / 127, and each code is the nearest whole number: the error is
    at most half a scale (symmetric absmax, as in Dettmers et al. 2022, section 2.1).

    >>> codes, scale = to_int8(torch.tensor([[1.27, -0.5, 0.004]]))
    >>> codes.tolist(), [round(s, 4) for s in scale.tolist()]
    ([[127, -50, 0]], [0.01])
    """
    weight = weight.float()
    scale = weight.abs().amax(1) / 127
    codes = (weight / _no_zero(scale)[:, None]).round()
    return codes.to(torch.int8), scale


def from_int8(codes: Tensor, scale: Tensor) -> Tensor:
    """codes x scale, (N, K) fp32."""
    return codes.float() * scale[:, None].float()


def to_int4(weight: Tensor, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """weight (N, K) -> codes uint8 (N, K) of 0 to 15, scale and middle (N, K / group).

    weight ~ (codes - 8) x scale + middle. The 16 levels of a group reach from its
    least weight to its greatest: scale = (greatest - least) / 15, middle = least + 8
    scale. Both are kept in bf16, and codes are chosen for what was kept, so rounding
    the step costs nothing twice.

    >>> codes, scale, middle = to_int4(torch.tensor([[-8.0, 7.0, 0.4, -0.6]]), 4)
    >>> codes.tolist(), scale.tolist(), middle.tolist()
    ([[0, 15, 8, 7]], [[1.0]], [[0.0]])
    """
    groups = weight.float().unflatten(1, (-1, group))  # (N, K / group, group)
    least, greatest = groups.aminmax(dim=-1)
    scale = ((greatest - least) / 15).bfloat16()
    middle = (least + 8 * scale.float()).bfloat16()
    steps = (groups - middle[..., None].float()) / _no_zero(scale.float())[..., None]
    codes = (steps.round() + 8).clamp(0, 15)
    return codes.flatten(1).to(torch.uint8), scale, middle


def from_int4(codes: Tensor, scale: Tensor, middle: Tensor) -> Tensor:
    """(codes - 8) x scale + middle, (N, K) fp32."""
    groups = codes.float().unflatten(1, (scale.shape[1], -1)) - 8
    return (groups * scale[..., None].float() + middle[..., None].float()).flatten(1)


def pack(codes: Tensor) -> Tensor:
    """Two codes of 4 bits in a byte, the first in the low half: (N, K) -> (N, K / 2).

    >>> pack(torch.tensor([[1, 2, 15, 0]], dtype=torch.uint8)).tolist()
    [[33, 15]]
    """
    return codes[:, 0::2] | codes[:, 1::2] << 4


def unpack(packed: Tensor) -> Tensor:
    """The reverse of `pack`.

    >>> unpack(torch.tensor([[33, 15]], dtype=torch.uint8)).tolist()
    [[1, 2, 15, 0]]
    """
    return torch.stack([packed & 15, packed >> 4], -1).flatten(1)


def _no_zero(scale: Tensor) -> Tensor:
    """A row of zeros has scale 0; its codes are 0, whatever they are divided by."""
    return torch.where(scale > 0, scale, 1)


# ---- layers --------------------------------------------------------------------------


class Int8Linear(nn.Module):
    """y = (codes x scale) x + b, with a scale per row; made by `to_int8`.

    The forward is the readable one: restore the weights, then multiply. Decoding uses
    `folio.infer.products`.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(outputs))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    @torch.no_grad()
    def fill(self, linear: nn.Linear) -> Int8Linear:
        """Take over the weights of `linear`, rounded."""
        self.codes, self.scale = to_int8(linear.weight)
        self.bias = None if linear.bias is None else linear.bias.detach().clone()
        return self

    def restored(self) -> Tensor:
        """The weights, (N, K) fp32."""
        return from_int8(self.codes, self.scale)

    def forward(self, x: Tensor) -> Tensor:  # (..., K) -> (..., N)
        return F.linear(x, self.restored().to(x.dtype), self.bias)


class Int4Linear(nn.Module):
    """The same with `to_int4`: two codes a byte, scale and middle per group."""

    def __init__(self, inputs: int, outputs: int, bias: bool, group: int):
        super().__init__()
        self.in_features, self.out_features, self.group = inputs, outputs, group
        packed = torch.zeros(outputs, inputs // 2, dtype=torch.uint8)
        steps = torch.zeros(outputs, inputs // group, dtype=torch.bfloat16)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", steps)
        self.register_buffer("middle", steps.clone())
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    @torch.no_grad()
    def fill(self, linear: nn.Linear) -> Int4Linear:
        """Take over the weights of `linear`, rounded."""
        codes, self.scale, self.middle = to_int4(linear.weight, self.group)
        self.packed = pack(codes)
        self.bias = None if linear.bias is None else linear.bias.detach().clone()
        return self

    def restored(self) -> Tensor:
        """The weights, (N, K) fp32."""
        return from_int4(unpack(self.packed), self.scale, self.middle)

    def forward(self, x: Tensor) -> Tensor:  # (..., K) -> (..., N)
        return F.linear(x, self.restored().to(x.dtype), self.bias)


QuantizedLinear = Int8Linear | Int4Linear


# ---- models --------------------------------------------------------------------------


def quantize(model: Decoder, bits: int = 8, group: int = 32) -> Decoder:
    """A copy of `model` with rounded weights, for inference; `model` stays as it is.

    The matrices of the blocks get `bits`; the head always gets 8, for its rows are the
    words themselves. A tied embedding takes the head's rounded rows. Norms, biases and
    an untied embedding stay.
    """
    options = Quantization(bits, group)
    if (found := quantization_of(model)) is not None:
        raise UserError(
            f"the model has {found.bits}-bit weights already; quantize the one it was "
            "made from"
        )
    rounded = copy.deepcopy(model).eval().requires_grad_(False)
    for name, layer in make_quantized(rounded, options).items():
        layer.fill(model.get_submodule(name))
    tie_to_head(rounded)
    return rounded


def make_quantized(model: Decoder, options: Quantization) -> dict[str, QuantizedLinear]:
    """Put empty quantized layers in the place of `model`'s own; these, by name."""
    if model.config.experts is not None:
        raise UserError(
            "the model has experts, whose weights are stacked; quantize knows only "
            "dense layers"
        )
    layers = {}
    for name, linear in list(model.named_modules()):
        if not isinstance(linear, nn.Linear):
            continue
        shape = linear.in_features, linear.out_features, linear.bias is not None
        if options.bits == 8 or name == "head":
            layer = Int8Linear(*shape)
        elif linear.in_features % options.group:
            raise UserError(
                f"{name} is {linear.in_features} wide, which is not divisible by "
                f"group = {options.group}; choose another group, or bits = 8"
            )
        else:
            layer = Int4Linear(*shape, options.group)
        layers[name] = layer.to(linear.weight.device)
        model.set_submodule(name, layers[name])
    return layers


def quantization_of(model: nn.Module) -> Quantization | None:
    """How the weights of `model` were rounded; None: they weren't."""
    for layer in model.modules():
        if isinstance(layer, Int4Linear):
            return Quantization(4, layer.group)
        if isinstance(layer, Int8Linear):
            return Quantization(8)
    return None


@torch.no_grad()
def tie_to_head(model: Decoder) -> None:
    """Give a tied embedding the rows of the quantized head, restored.

    They are stored once, in 8 bits; in memory the embedding is fp32, for a token
    reads a single row of it.
    """
    if model.config.tie_embeddings:
        model.embedding.weight = nn.Parameter(
            model.head.restored().to(model.embedding.weight), requires_grad=False
        )
