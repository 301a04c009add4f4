"""What backward needs of the forward: every number that autograd keeps, by part.

Counted from the code of `folio.model`, line by line, and held to what autograd really
saves by `tests/planning/test_activations.py`. Korthikanti et al. 2022 (section 4) count
the same for GPT-2's layer in 16 bits: 34 bytes per token and width, and 5 H T for the
scores that a fused kernel doesn't keep.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

from folio.model.attend import fastest_path
from folio.model.config import ModelConfig
from folio.model.heads import LOGITS_AT_ONCE
from folio.planning.work import Work

ROWS = 4  # bytes of one fp32 number per row, such as a norm's deviation
INDEX = 8  # bytes of an int64


def kept_by_layer(config: ModelConfig, work: Work, layer: int) -> dict[str, float]:
    """Bytes that layer number `layer` keeps of one micro-batch, by part.

    With work.tensor devices, heads and feed-forward widths are split among them, norms
    and what enters a layer are not (Korthikanti et al. 2022, eq. 2).
    """
    kind = config.layer_mlps[layer]
    norms = 2 * norm(config, work)
    if config.post_norm:
        norms += 2 * norm(config, work, rounded=True)
    per_token = {
        "norms": norms,
        "attention": attention(config, work, config.layer_windows[layer]),
        "mlp": dense(config, work, config.ff_width) if kind in "db" else 0,
        "experts": experts(config, work) if kind in "eb" else 0,
    }
    if kind == "b" and not work.numbers.cast:  # both read the same normed rows
        per_token["experts"] -= inputs(config.d_model, 1, work)
    per_token["attention"] += dropped(config, work)
    per_token["mlp" if kind == "d" else "experts"] += dropped(config, work)
    return {part: work.tokens * size for part, size in per_token.items()}


def kept_by_head(config: ModelConfig, work: Work) -> float:
    """Bytes that the last norm, the head and the loss keep of one micro-batch.

    Of the logits the loss keeps their fp32 log-softmax, and a soft cap its input; where
    `chunked_logprobs` cuts them, they are computed again and nothing is kept.
    """
    size = norm(config, work) + inputs(config.d_model, 1, work)
    if not cut(config, work):
        size += 4 * config.vocab_size / work.tensor
        if config.logit_softcap is not None:
            size += work.numbers.product * config.vocab_size / work.tensor
    return work.tokens * size


def kept_by_all(config: ModelConfig, work: Work) -> float:
    """What all layers share: positions' angles, masks, and the batch itself."""
    size = 4 * INDEX * work.tokens  # inputs, targets, weights, and what is looked up
    if config.positions == "rotary":
        size += 2 * work.numbers.stream * work.length * config.rotary_width
    narrower = any(w is not None and w < work.length for w in config.layer_windows)
    if narrower and not work.cuda:  # a square that is added to the scores
        size += work.numbers.product * work.length**2
    return size + work.tokens * dropped(config, work, work.numbers.stream)


def cut(config: ModelConfig, work: Work) -> bool:
    """Does the loss read the logits in pieces?"""
    return work.tokens > max(LOGITS_AT_ONCE // config.vocab_size, 1)


# ---- bytes per token of one part -----------------------------------------------------


def norm(config: ModelConfig, work: Work, rounded: bool = False) -> float:
    """Its input, and one or two numbers per row. `rounded`: by autocast, the input."""
    if config.norm == "layernorm":
        return work.numbers.stream * config.d_model + 2 * ROWS
    return rms_norm(config.d_model, work, rounded)


def rms_norm(width: int, work: Work, rounded: bool) -> float:
    """Fused on CUDA it keeps its input.

    On CPUs, and where autocast has rounded the input but not the gain, it is put
    together of smaller steps in fp32, and keeps the normed row too.
    """
    fused = work.cuda and not (rounded and work.numbers.cast)
    return (work.numbers.stream if fused else 2 * 4) * width + ROWS


def inputs(width: int, products: int, work: Work) -> float:
    """What enters linear layers: kept once, but autocast rounds it for each of them."""
    return work.numbers.product * width * (products if work.numbers.cast else 1)


def dropped(config: ModelConfig, work: Work, size: int | None = None) -> float:
    """Which numbers of a row dropout let pass."""
    if not config.dropout:
        return 0.0
    return config.d_model * (1 if work.cuda else size or work.numbers.product)


def attention(config: ModelConfig, work: Work, window: int | None) -> float:
    """Inputs, queries, keys, values, the mix, and the scores if the path keeps them."""
    if config.latent is not None:
        size, met = latent_inputs(config, work), config.latent.rope_width
        keys = config.n_heads
    else:
        size, met, keys = inputs(config.d_model, 3, work), 0, config.kv_heads
    one, width = work.numbers.product, config.head_width
    asked = config.n_heads * (width + met)
    known = keys * (2 * width + met)
    if config.qk_norm:
        rows = config.n_heads + config.kv_heads
        size += rows * rms_norm(width, work, rounded=True) / work.tensor
    if work.numbers.cast and config.positions == "rotary":
        size += 4 * one * config.rotary_width / work.batch  # rounded angles, per layer
    felt = window is not None and window < work.length
    turned = 2 if felt and config.sinks and config.positions == "rotary" else 1
    mixed = config.n_heads * width
    per_head = one * (turned * asked + known + mixed)
    path = chosen_path(config, work, felt)
    if keeps_scores(config, work, path):
        squares = 1 + (config.attention_softcap is not None)
        squares += 2 if config.dropout else 0
        per_head += one * squares * config.n_heads * work.length
    else:
        per_head += ROWS * config.n_heads  # the sum of each row of weights
        # The kernel lays its result out like its queries; normed ones lie head by head,
        # so the output layer reads a copy of it.
        per_head += one * mixed if config.qk_norm else 0
    return size + per_head / work.tensor


def latent_inputs(config: ModelConfig, work: Work) -> float:
    """The way down to the latents, with their norms, and what goes up again."""
    latent = config.latent
    size = inputs(config.d_model, 3, work)
    ranks = [(latent.rank, 1)]
    if latent.query_rank is not None:
        ranks.append((latent.query_rank, 1))
    for rank, products in ranks:
        size += rms_norm(rank, work, rounded=True) + inputs(rank, products, work)
    return size + work.numbers.product * latent.rope_width


def chosen_path(config: ModelConfig, work: Work, felt: bool) -> str:
    """The path that `attend` will take, asked of `fastest_path` itself."""
    low = {2: torch.bfloat16, 4: torch.float32}[work.numbers.product]
    width = config.head_width
    met = config.latent.rope_width if config.latent is not None else 0

    def tensor(last: int) -> SimpleNamespace:
        shape = (work.batch, config.n_heads, work.length, last)
        return SimpleNamespace(shape=shape, dtype=low, is_cuda=work.cuda)

    sinks = felt and config.sinks and config.positions == "rotary"
    with torch.enable_grad():
        return fastest_path(
            tensor(width + met),
            tensor(width),
            SimpleNamespace(causal=not felt),
            softcap=config.attention_softcap,
            sink_q=object() if sinks else None,
            dropout=config.dropout,
        )


def keeps_scores(config: ModelConfig, work: Work, path: str) -> bool:
    """Does (H, T, T) stay? The kernel for CPUs knows no dropout, and falls back."""
    if path == "fused":
        return bool(config.dropout) and not work.cuda
    return path == "explicit"


def dense(config: ModelConfig, work: Work, width: int) -> float:
    """A feed-forward part: before and after the bend; gated, both factors and product.

    relu2 keeps what relu left and its square: two, like the others.
    """
    products = 2 if config.gated else 1
    kept = 4 if config.gated else 2
    inner = work.numbers.product * kept * width / work.tensor
    return inputs(config.d_model, products, work) + inner


def experts(config: ModelConfig, work: Work) -> float:
    """The router, each token's copies for its experts, what these keep, and the mix."""
    options, d, one = config.experts, config.d_model, work.numbers.product
    k, width, count = options.active, config.expert_width, options.count
    products, kept = (2, 4) if config.gated else (1, 2)
    size = 4 * d + 3 * 4 * count + k * (3 * INDEX + 2 * 4)  # the router works in fp32
    size += k * inputs(d, products, work)
    size += k * one * (kept * width / work.tensor + d)
    if options.shared:
        size += dense(config, work, options.shared * width)
        if not work.numbers.cast:
            size -= inputs(d, 1, work)  # its input is the router's, kept already
    return size
