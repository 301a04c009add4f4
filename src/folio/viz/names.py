"""What logged quantities are called."""

from __future__ import annotations

NAMES = {
    "val_loss": "held-out loss",
    "val_bits_per_byte": "held-out bits per byte",
    "loss": "training loss",
    "grad_norm": "gradient norm",
    "busiest_expert": "share of the busiest expert",
    "load_variation": "variation of the experts' load",
}


def readable(key: str) -> str:
    """The name of a logged quantity; of one layer's, the layer.

    >>> readable("val_loss"), readable("copy_name"), readable("grad_norm.blocks.0")
    ('held-out loss', 'copy name', 'layer 1')
    """
    family, _, part = key.partition(".")
    return layer_name(part) if part else NAMES.get(family, family.replace("_", " "))


def layer_name(name: str) -> str:
    """
    >>> layer_name("blocks.0"), layer_name("embedding")
    ('layer 1', 'embedding')
    """
    first, _, number = name.partition(".")
    return f"layer {int(number) + 1}" if first == "blocks" else name


def title_of(name: str) -> str:
    """With a capital, and the rest as it is.

    >>> title_of("SwiGLU and others"), title_of("held-out loss")
    ('SwiGLU and others', 'Held-out loss')
    """
    return name[:1].upper() + name[1:]
