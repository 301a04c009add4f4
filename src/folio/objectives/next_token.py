"""Predict the next token: the objective of pretraining and of fine-tuning alike."""

from __future__ import annotations

from torch import Tensor, nn

from folio.data.batch import Batch


def next_token(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy as a *sum* in nats over the weighted targets, and no metrics.

    batch: inputs (B, T), targets (B, T), weights (B, T). The learner divides once, by
    the weights of the whole step; fine-tuning only sets the prompt's weights to zero.
    """
    logprobs = model(batch.inputs, targets=batch.targets).logprobs  # (B, T)
    return -(logprobs * batch.weights).sum(), {}
