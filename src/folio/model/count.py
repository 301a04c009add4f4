"""Parameters and floating-point operations, counted before anything is built."""

from __future__ import annotations

from folio.model.config import ModelConfig


def count_parameters(config: ModelConfig) -> dict[str, int]:
    """Parameters by part; 'total' counts a tied head once."""
    d, f, b = config.d_model, config.ff_width, int(config.bias)
    kv = config.kv_heads * config.head_width
    norm = d * (1 + (b if config.norm == "layernorm" else 0))
    attention = 2 * (d * d + b * d) + 2 * (d * kv + b * kv)
    if config.mlp == "swiglu":
        mlp = 3 * d * f + b * (2 * f + d)
    else:
        mlp = 2 * d * f + b * (f + d)
    counts = {
        "embedding": config.vocab_size * d,
        "positions": config.max_seq_len * d if config.positions == "learned" else 0,
        "attention": config.n_layers * attention,
        "mlp": config.n_layers * mlp,
        "norms": (2 * config.n_layers + 1) * norm,
        "head": 0 if config.tie_embeddings else config.vocab_size * d,
    }
    return counts | {"total": sum(counts.values())}


def flops_per_token(config: ModelConfig, length: int) -> int:
    """Operations to train on one token: 6 per weight that multiplies, plus attention.

    Two (multiply, add) forward and four backward for each weight of a matrix, the
    head's included and the embedding's look-up not; and 12 L D T/2 for the causal
    scores and mixes of a sequence of `length` (Chowdhery et al. 2022, appendix B,
    halved for causality).
    """
    counts = count_parameters(config)
    weights = counts["attention"] + counts["mlp"]
    weights += config.vocab_size * config.d_model  # the head, tied or not
    return 6 * weights + 6 * config.n_layers * config.d_model * length
