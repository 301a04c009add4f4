"""The matrix products of decoding, in the form that suits few rows and the machine.

With one row a product is as fast as its weights can be read, so what counts is their
size and a loop that keeps the memory busy; with several, how the weights are laid out.
So one row takes `(w * x).sum(-1)`, which the compiler turns into one loop over the
weights, several rows take oneDNN's product with weights packed beforehand, and 4 bits
take the library's own. (The compiler would pack by itself, "freezing" weights, but
didn't in torch 2.13: it called the unpacked product.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.moe import Choice, Experts
from folio.model.quantize import (
    Int4Linear,
    Int8Linear,
    QuantizedLinear,
    from_int4,
    unpack,
)

Linear = nn.Linear | QuantizedLinear

# Rows of the matrix that one loop works on at once: a single sum waits for the addition
# before it, which costs most where a register holds the most weights.
PARTS = {torch.float32: 2, torch.bfloat16: 2, torch.int8: 4}
TILE = 16  # rows that PyTorch's 4-bit product takes together


class Product(nn.Module):
    """y = (weight x scale) x + b for weights of any dtype; y has the dtype of x.

    `weight` (N, K) may be whole numbers with a `scale` (N,), which then multiplies the
    result instead of each weight. A sum has fp32 terms whatever the weights are.
    """

    def __init__(
        self, weight: Tensor, scale: Tensor | None = None, bias: Tensor | None = None
    ):
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:  # (..., K) -> (..., N)
        y = self.multiply(x)
        if self.scale is not None:
            y = y * self.scale
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)

    def multiply(self, x: Tensor) -> Tensor:
        """The product alone, without scale and bias."""
        # Eager, the one-row form would fill a matrix in between
        one = x.numel() == x.shape[-1] and torch.compiler.is_compiling()
        return self.one_row(x) if one else self.many_rows(x)

    def one_row(self, x: Tensor) -> Tensor:
        """(..., K) with a single row, by a product and a sum."""
        kind = torch.promote_types(torch.float32, x.dtype)
        row = x.reshape(-1).to(kind)
        parts = self.weight.chunk(PARTS.get(self.weight.dtype, 1))
        y = torch.cat([(part.to(kind) * row).sum(-1) for part in parts])
        return y.view(*x.shape[:-1], -1)

    def many_rows(self, x: Tensor) -> Tensor:
        """(..., K), by the library; whole numbers become what x is."""
        weight = self.weight
        if not weight.is_floating_point():
            weight = weight.to(x.dtype)
        return F.linear(x.to(weight.dtype), weight).to(x.dtype)


class PackedProduct(Product):
    """The same by oneDNN, with the weights (N, K) packed for some number of rows.

    fp32 or bf16, on a CPU. What is packed can't enter a compiled graph; the graph calls
    an operator that finds it by its number.
    """

    def __init__(self, weight: Tensor, rows: int, scale=None, bias=None):
        super().__init__(weight[:0], scale, bias)
        self.outputs, self.dtype = len(weight), weight.dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        self.number = next(_NUMBERS)
        PACKED[self.number] = self

    def multiply(self, x: Tensor) -> Tensor:
        """The product alone, without scale and bias."""
        flat = x.reshape(-1, x.shape[-1]).to(self.dtype)
        y = torch.ops.folio.packed_product(flat, self.number, self.outputs)
        return y.to(x.dtype).view(*x.shape[:-1], -1)


_NUMBERS = count()
PACKED = WeakValueDictionary[int, PackedProduct]()  # all there are, by number


# Defined for the dispatcher itself: `custom_op` would add 13 us to calls of 20 to 110
LIBRARY = torch.library.Library("folio", "DEF")
LIBRARY.define("packed_product(Tensor x, int number, int outputs) -> Tensor")


@torch.library.impl(LIBRARY, "packed_product", "CPU")
def packed_product(x: Tensor, number: int, outputs: int) -> Tensor:
    """x (rows, K) by the weights of the `PackedProduct` with that number."""
    packed = PACKED[number].packed
    return torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")


@torch.library.register_fake("folio::packed_product", lib=LIBRARY)
def _(x: Tensor, number: int, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


class Int4Product(nn.Module):
    """The product of an `Int4Linear` by PyTorch's own, for any number of rows.

    Activations are rounded to bf16: with fp32 ones that product is far slower.
    CPU only; rows are filled up to whole tiles with zeros.
    """

    def __init__(self, packed: Tensor, scale: Tensor, middle: Tensor, bias=None):
        super().__init__()
        self.outputs, self.group = len(packed), 2 * packed.shape[1] // scale.shape[1]
        extra = -self.outputs % TILE
        codes = F.pad(unpack(packed), (0, 0, 0, extra)).int()
        steps = torch.stack([scale, middle], -1)  # (N, K / group, 2)
        steps = F.pad(steps, (0, 0, 0, 0, 0, extra)).transpose(0, 1).contiguous()
        tiles = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        self.register_buffer("tiles", tiles)
        self.register_buffer("steps", steps)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:  # (..., K) -> (..., N)
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.flatten(0, -2).bfloat16(), self.tiles, self.group, self.steps
        )
        y = y[:, : self.outputs].to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


class ChosenExperts(nn.Module):
    """Experts whose weights are picked by index, so that the compiler sees no branch.

    For the few tokens of a step: each reads the weights of its own k experts. Not
    compiled, that would copy them, so a prompt goes the usual way.
    """

    def __init__(self, experts: Experts, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.usual, self.activation = experts, experts.activation
        for name in ("gate", "up", "down"):
            weight = getattr(experts, name)
            weight = None if weight is None else weight.detach().to(dtype)
            self.register_buffer(name, weight)

    def forward(self, x: Tensor, choice: Choice) -> Tensor:  # (N, D) -> (N, D)
        if not torch.compiler.is_compiling():
            return self.usual(x, choice)
        hidden = self.pick(self.up, choice, x[:, None])  # (N, k, F)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            gate = self.pick(self.gate, choice, x[:, None])
            hidden = self.activation(gate) * hidden
        done = self.pick(self.down, choice, hidden)  # (N, k, D)
        return (done * choice.weights[..., None].to(done.dtype)).sum(1)

    def pick(self, weights: Tensor, choice: Choice, x: Tensor) -> Tensor:
        """x (N, 1 or k, inputs) by the chosen of weights (E, outputs, inputs)."""
        chosen = weights[choice.experts].to(x.dtype)  # (N, k, outputs, inputs)
        return (chosen * x[:, :, None]).sum(-1)


def make_product(
    linears: Sequence[Linear], rows: int, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """The fast form, for `rows` rows, of layers that read the same input.

    Their outputs come side by side. `dtype` is that of the weights, if these are not
    quantized.
    """
    first, bias = linears[0], _stack(linears, "bias")
    if isinstance(first, Int8Linear):
        codes = _stack(linears, "codes")
        if rows > 1:  # these meet the codes as bf16, which holds them exactly
            codes = codes.bfloat16()
        return _product(codes, rows, _stack(linears, "scale"), bias)
    if isinstance(first, Int4Linear):
        parts = [_stack(linears, name) for name in ("packed", "scale", "middle")]
        if parts[0].device.type == "cpu":
            return Int4Product(*parts, bias)
        restored = from_int4(unpack(parts[0]), *parts[1:])
        return Product(restored.bfloat16(), None, bias)  # of 4 bits, only the loss
    return _product(_stack(linears, "weight").to(dtype), rows, None, bias)


def _product(weight: Tensor, rows: int, scale, bias) -> Product:
    """Packed for several rows, where oneDNN is."""
    packable = weight.dtype in (torch.float32, torch.bfloat16)
    on_cpu = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if rows > 1 and on_cpu and packable:
        return PackedProduct(weight, rows, scale, bias)
    return Product(weight, scale, bias)


def _stack(linears: Sequence[Linear], name: str) -> Tensor | None:
    """A tensor of each layer, rows under one another."""
    tensors = [getattr(linear, name) for linear in linears]
    if tensors[0] is None:
        return None
    return (torch.cat(tensors) if len(tensors) > 1 else tensors[0]).detach()
