"""A decoder around the same weights, with its small products joined into large ones.

Queries, keys and values come from one product, gate and up from another, each in the
form that suits the number of rows (`folio.infer.products`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from folio.infer.products import ChosenExperts, make_product
from folio.model.attend import attend, soft_cap
from folio.model.attention import Attention, Cache, Shared
from folio.model.decoder import Decoder
from folio.model.latent import LatentAttention
from folio.model.mask import Mask
from folio.model.mlp import GatedMLP, PlainMLP
from folio.model.moe import MixtureOfExperts
from folio.model.quantize import QuantizedLinear


def attend_one(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    scale: float,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
) -> Tensor:
    """`attend_reference` for a single query, by products and sums.

    q (B, H, 1, K), k and v (B, G, S, K) -> (B, H, 1, K). A call of the library in each
    layer cuts a token into many pieces of compiled code; with none it is one piece.
    Sums are fp32 ones.
    """
    k, v = k[:, :, None], v[:, :, None]  # (B, G, 1, S, K), for the queries of a group
    groups = (k.shape[1], -1)

    def scores_of(queries: Tensor) -> Tensor:  # -> (B, G, R, S)
        return (queries.float().unflatten(1, groups) * k).sum(-1)

    scores = scores_of(q)
    if sink_q is not None:
        scores = torch.where(mask.sink_keys, scores_of(sink_q), scores)
    scores = soft_cap(scores * scale, softcap).masked_fill(~mask.seen, -torch.inf)
    weights = scores.softmax(-1)
    return (weights[..., None] * v).sum(-2).flatten(1, 2)[:, :, None]


def attend_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    scale: float,
    softcap: float | None = None,
    sink_q: Tensor | None = None,
) -> Tensor:
    """One query of each text, by what suits their number.

    The products of several cut a token into pieces anyway, and PyTorch's kernel is
    faster than loops: 1.4 ms instead of 2.1 for 32 texts of 80 tokens and 6 layers.
    """
    special = softcap is not None or sink_q is not None
    if len(q) == 1 or special or q.device.type != "cpu":
        return attend_one(q, k, v, mask, scale=scale, softcap=softcap, sink_q=sink_q)
    return attend(q, k, v, mask, scale=scale, path="fused")


class FusedAttention(Attention):
    """`Attention` with queries, keys and values from one product."""

    def __init__(self, source: Attention, rows: int, dtype: torch.dtype):
        nn.Module.__init__(self)
        for name, value in vars(source).items():
            if not name.startswith("_"):  # its settings; nn.Module keeps parts in _
                setattr(self, name, value)
        self.query_norm, self.key_norm = source.query_norm, source.key_norm
        parts = [source.query, source.key, source.value]
        self.widths = [part.out_features for part in parts]
        self.qkv = make_product(parts, rows, dtype)
        self.out = make_product([source.out], rows, dtype)

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        if cache is None:
            return super().forward(x, shared)
        q, k, v = self.project(x)
        turned, k = self.turn(q, k, shared.angles)
        k, v, key_positions = cache.update(k, v, shared.positions)
        mask = shared.masks.of(key_positions, self.window, self.sinks)
        sink_q = self.meet_sinks(q, mask, shared)
        turned = turned.to(k.dtype)  # that of the cache
        sink_q = sink_q if sink_q is None else sink_q.to(k.dtype)
        options = {"scale": self.scale, "softcap": self.softcap, "sink_q": sink_q}
        if x.shape[1] == 1 and torch.compiler.is_compiling():
            y = attend_step(turned, k, v, mask, **options)
        else:
            y = attend(turned, k, v, mask, **options, path=self.path)
        y = y.to(x.dtype)
        return self.out(y.transpose(1, 2).flatten(2))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, K), keys and values (B, G, T, K), not turned yet."""
        q, k, v = self.qkv(x).split(self.widths, -1)
        q, k = self.split(q, self.n_heads), self.split(k, self.n_kv_heads)
        if self.query_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        return q, k, self.split(v, self.n_kv_heads)


class FusedMLP(nn.Module):
    """`GatedMLP` with gate and up from one product."""

    def __init__(self, source: GatedMLP, rows: int, dtype: torch.dtype):
        super().__init__()
        self.activation = source.activation
        self.gate_up = make_product([source.gate, source.up], rows, dtype)
        self.down = make_product([source.down], rows, dtype)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(self.activation(gate) * up)


def fuse(model: Decoder, rows: int, dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder that computes what `model` does, with fused products for `rows` rows.

    `dtype` is that of the products' weights; all else stays fp32. What is not a matrix
    of a block or the head is shared with `model`, not copied.
    """
    fused = _same_parts(model)
    for block in fused.blocks:
        block.attention = _fuse_attention(block.attention, rows, dtype)
        if block.mlp is not None:
            block.mlp = _fuse_mlp(block.mlp, rows, dtype)
        if block.moe is not None:
            _fuse_experts(block.moe, rows, dtype)
    fused.head = make_product([fused.head], rows, dtype)
    return fused.eval()


def _fuse_attention(
    attention: Attention | LatentAttention, rows: int, dtype: torch.dtype
) -> nn.Module:
    if isinstance(attention, Attention):
        return FusedAttention(attention, rows, dtype)
    for name in ("query_latent", "query", "latent", "rotary_key", "out"):
        if (linear := getattr(attention, name)) is not None:
            setattr(attention, name, make_product([linear], rows, dtype))
    for name in ("key", "value"):  # their weights are asked for, head by head
        linear = getattr(attention, name)
        if isinstance(linear, QuantizedLinear):
            setattr(attention, name, _plain(linear))
    return attention


def _plain(linear: QuantizedLinear) -> nn.Linear:
    """The same layer with its weights restored."""
    plain = nn.Linear(linear.in_features, linear.out_features, bias=False)
    plain.weight = nn.Parameter(linear.restored(), requires_grad=False)
    return plain


def _fuse_mlp(mlp: GatedMLP | PlainMLP, rows: int, dtype: torch.dtype) -> nn.Module:
    if isinstance(mlp, GatedMLP):
        return FusedMLP(mlp, rows, dtype)
    mlp.up = make_product([mlp.up], rows, dtype)
    mlp.down = make_product([mlp.down], rows, dtype)
    return mlp


def _fuse_experts(moe: MixtureOfExperts, rows: int, dtype: torch.dtype) -> None:
    moe.experts = ChosenExperts(moe.experts, dtype)
    if moe.shared_expert is not None:
        moe.shared_expert = _fuse_mlp(moe.shared_expert, rows, dtype)


def _same_parts(module: nn.Module) -> nn.Module:
    """A tree of new modules that hold the same tensors."""
    twin = copy.copy(module)
    for kind in ("_parameters", "_buffers", "_modules"):
        setattr(twin, kind, dict(getattr(module, kind)))
    for name, child in module._modules.items():
        if child is not None:
            twin._modules[name] = _same_parts(child)
    return twin
