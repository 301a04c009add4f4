"""How surprised is the model by unseen text? Loss, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from folio.config import UserError
from folio.data.batch import Batch
from folio.data.text import validation_windows
from folio.data.tokens import Tokens


@torch.no_grad()
def mean_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> float:
    """Mean cross-entropy, in nats per weighted target, over all `batches`.

    Draws no random numbers and leaves the model in the mode it was in, so that
    measuring can't disturb training.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = count = 0.0
    try:
        for batch in batches:
            moved = batch.to(device)
            with autocast():
                logprobs = model(moved.inputs, targets=moved.targets).logprobs
            # Summed on the CPU in fp64, which Apple's GPUs don't have.
            total -= (logprobs.cpu().double() * batch.weights).sum().item()
            count += batch.denominator
    finally:
        model.train(was_training)
    if not count:
        raise UserError("nothing to measure: no token of the held-out part has weight")
    return total / count


def perplexity(
    model: nn.Module,
    tokens: Tokens,
    length: int,
    batch: int = 32,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, float]:
    """Loss over the *whole* of `tokens`, in windows of `length`, and what follows.

    val_loss: nats per token; val_perplexity: its exponential; val_bits_per_byte: bits
    per byte of the text itself, which compares models with different tokenizers
    (left out where the bytes are unknown).
    """
    loss = mean_loss(model, validation_windows(tokens, length, batch), autocast)
    metrics = {"val_loss": loss, "val_perplexity": math.exp(min(loss, 700.0))}
    if tokens.text_bytes:
        bits = loss * (len(tokens) - 1) / math.log(2)
        metrics["val_bits_per_byte"] = bits / tokens.text_bytes
    return metrics
