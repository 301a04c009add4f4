"""What logged quantities are called."""

from __future__ import annotations

NAMES = {
    "val_loss": "held-out loss",
    "val_bits_per_byte": "held-out bits per byte",
    "loss": "training loss",
    "grad_norm": "gradient norm",
    "busiest_expert": "share of the busiest expert",
    "load_variation": "variation of the experts' load",
    "val_accuracy": "held-out accuracy",
    "val_perplexity": "held-out perplexity",
    "approx_kl": "KL of an update",
    "clipped_high": "clipped above",
    "clipped_low": "clipped below",
    "dead_groups": "groups that teach nothing",
    "f1": "words in common (F1)",
    "filled": "share of rows in use",
    "greedy_exact": "to the letter (greedy)",
    "greedy_finished": "ended by itself (greedy)",
    "kl": "KL",
    "kl_sequence": "KL per answer",
    "kl_token": "KL per token",
    "length_max": "longest answer",
    "length_mean": "mean length",
    "max_new_tokens": "limit of length",
    "pairs_per_second": "pairs per second",
    "ratio": "mean ratio",
    "ratio_max": "largest ratio",
    "beta": "price of KL",
    "redrawn": "rounds of redrawing",
    "reward_std": "spread of rewards",
    "unfinished": "answers without an end",
    "updates": "updates per rollout",
}


def readable(key: str) -> str:
    """The name of a logged quantity; of one layer's, the layer.

    >>> readable("val_loss"), readable("copy_name"), readable("grad_norm.blocks.0")
    ('held-out loss', 'copy name', 'layer 1')
    """
    family, _, part = key.partition(".")
    return part_name(part) if part else NAMES.get(family, family.replace("_", " "))


def part_name(name: str) -> str:
    """
    >>> part_name("blocks.0"), part_name("embedding"), part_name("who_has")
    ('layer 1', 'embedding', 'who has')
    """
    first, _, number = name.partition(".")
    is_layer = first == "blocks" and number.isdecimal()
    return f"layer {int(number) + 1}" if is_layer else name.replace("_", " ")


def title_of(name: str) -> str:
    """With a capital, and the rest as it is.

    >>> title_of("SwiGLU and others"), title_of("held-out loss")
    ('SwiGLU and others', 'Held-out loss')
    """
    return name[:1].upper() + name[1:]
