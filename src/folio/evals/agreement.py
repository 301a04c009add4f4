"""Do two models think alike? How often their first guesses are the same."""

from __future__ import annotations

import torch

from folio.data.text import validation_windows
from folio.data.tokens import Tokens
from folio.model.decoder import Decoder


@torch.no_grad()
def agreement(
    one: Decoder, other: Decoder, tokens: Tokens, length: int, batch: int = 32
) -> float:
    """Share of the places in `tokens` where both find the same token the likeliest.

    Each place is judged after the true text before it, in windows of `length`, so one
    difference brings no other. Both models are on one device, in evaluation mode.
    """
    device = one.embedding.weight.device
    same = count = 0.0
    for window in validation_windows(tokens, length, batch):
        guesses = [
            model(window.inputs.to(device)).logits.argmax(-1).cpu()
            for model in (one, other)
        ]
        same += ((guesses[0] == guesses[1]) * window.weights).sum().item()
        count += window.denominator
    return same / count
