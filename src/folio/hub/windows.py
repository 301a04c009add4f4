"""Which layers have a window, as configuration files say it."""

from __future__ import annotations

from typing import Any

from folio.config import UserError
from folio.hub.family import shortest_pattern
from folio.hub.keys import Keys
from folio.model.config import ModelConfig

LETTERS = {"sliding_attention": "w", "full_attention": "f"}


def read_layer_types(keys: Keys, window: int | None, default: str) -> dict[str, Any]:
    """window and attention_pattern, from `layer_types` or the letters in `default`."""
    layers = keys.take("num_hidden_layers", int)
    kinds = keys.take("layer_types", list, None)
    letters = default if kinds is None else "".join(_letter(kind) for kind in kinds)
    if len(letters) != layers:
        raise UserError(
            f"layer_types names {len(letters)} layers, num_hidden_layers = {layers}"
        )
    if "w" not in letters:
        return {}
    if window is None:
        raise UserError("layer_types has 'sliding_attention', but no sliding_window")
    pattern = shortest_pattern(letters)
    return {"window": window, "attention_pattern": None if pattern == "w" else pattern}


def _letter(kind: Any) -> str:
    if not isinstance(kind, str) or kind not in LETTERS:
        raise UserError(f"layer_types has {kind!r}: supported are {', '.join(LETTERS)}")
    return LETTERS[kind]


def write_layer_types(config: ModelConfig) -> list[str]:
    return [
        "full_attention" if window is None else "sliding_attention"
        for window in config.layer_windows
    ]
