"""Parameters and floating-point operations, counted before anything is built."""

from __future__ import annotations

from folio.model.config import Latent, ModelConfig

MATRICES = ("attention", "mlp", "experts", "routers")
ALWAYS_SHOWN = ("embedding", "positions", "attention", "mlp", "norms", "head")


def count_parameters(
    config: ModelConfig, *, active_only: bool = False
) -> dict[str, int]:
    """Parameters by part; 'total' counts a tied head once.

    With `active_only`, only those experts count that one token meets.
    """
    d, b = config.d_model, int(config.bias)
    norm = d * (1 + (b if config.norm == "layernorm" else 0))
    norms = 2 * config.n_layers * (2 if config.post_norm else 1) + 1
    dense = sum(kind in "db" for kind in config.layer_mlps)
    experts, router = _experts(config, active_only)
    counts = {
        "embedding": config.vocab_size * d,
        "positions": config.max_seq_len * d if config.positions == "learned" else 0,
        "attention": config.n_layers * _attention(config),
        "mlp": dense * _mlp(config, config.ff_width),
        "experts": len(config.expert_layers) * experts,
        "routers": len(config.expert_layers) * router,
        "norms": norms * norm,
        "head": 0 if config.tie_embeddings else config.vocab_size * d,
    }
    counts = {part: n for part, n in counts.items() if n or part in ALWAYS_SHOWN}
    return counts | {"total": sum(counts.values())}


def _attention(config: ModelConfig) -> int:
    """One layer's matrices with their biases, and the norms of heads."""
    if config.latent is not None:
        return _latent_attention(config, config.latent)
    d, inner = config.d_model, config.n_heads * config.head_width
    kv = config.kv_heads * config.head_width
    bias = config.bias if config.qkv_bias is None else config.qkv_bias
    matrices = 2 * d * inner + 2 * d * kv
    biases = (inner + 2 * kv) * bias + d * config.bias
    return matrices + biases + 2 * config.head_width * config.qk_norm


def _latent_attention(config: ModelConfig, latent: Latent) -> int:
    """Down to the latents, each with a norm, and up again to every head."""
    d, b, inner = config.d_model, int(config.bias), config.n_heads * config.head_width
    queries = inner + config.n_heads * latent.rope_width
    asked, down = d, latent.rank + latent.rope_width
    norms = latent.rank
    if latent.query_rank is not None:
        asked = latent.query_rank
        down, norms = down + asked, norms + asked
    up = asked * queries + 2 * latent.rank * inner
    return d * down + b * down + norms + up + (inner + b) * d


def _mlp(config: ModelConfig, width: int) -> int:
    """One feed-forward part of a given width."""
    d, b, inner = config.d_model, int(config.bias), 2 if config.gated else 1
    return (inner + 1) * d * width + b * (inner * width + d)


def _experts(config: ModelConfig, active_only: bool) -> tuple[int, int]:
    """One layer's experts, and its router."""
    if config.experts is None:
        return 0, 0
    options, d, width = config.experts, config.d_model, config.expert_width
    one = (3 if config.gated else 2) * d * width
    count = options.active if active_only else options.count
    shared = _mlp(config, options.shared * width) if options.shared else 0
    return count * one + shared, options.count * d


def flops_per_token(config: ModelConfig, length: int) -> int:
    """Operations to train on one token: 6 per weight that multiplies, plus attention.

    Two (multiply, add) forward and four backward for each weight of a matrix, the
    head's included and the embedding's look-up not; and 12 L D T/2 for the causal
    scores and mixes of a sequence of `length` (Chowdhery et al. 2022, appendix B,
    halved for causality).
    """
    counts = count_parameters(config, active_only=True)
    weights = sum(counts.get(part, 0) for part in MATRICES)
    weights += config.vocab_size * config.d_model  # the head, tied or not
    met = config.n_heads * config.head_width
    mixed = met  # numbers per key in the product for the scores, and for the mix
    if config.latent is not None:
        met += config.n_heads * config.latent.rope_width
    seen = sum(min(length, 2 * (w or length)) for w in config.layer_windows)
    return 6 * weights + 3 * (met + mixed) * seen
