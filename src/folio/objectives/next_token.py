"""Predict the next token: the objective of pretraining and of fine-tuning alike."""

from __future__ import annotations

from torch import Tensor, nn

from folio.data.batch import Batch
from folio.data.layout import respond


def next_token(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy as a *sum* in nats over the weighted targets.

    batch: inputs (B, T), targets (B, T), weights (B, T); a packed one has positions and
    documents (B, T) too. The learner divides once, by the weights of the whole step;
    fine-tuning only sets the prompt's weights to zero.

    What routers ask for is added, each row's as often as it has weight; the metrics
    then tell the two apart.
    """
    some = batch.denominator < batch.targets.numel()  # prompts need no log-probs
    asked = {"where": batch.weights != 0} if some else {}
    output = respond(model, batch, targets=batch.targets, **asked)
    loss = -(output.logprobs * batch.weights).sum()
    if output.router_loss is None:
        return loss, {}
    asked = (output.router_loss * batch.weights.sum(1)).sum()
    return loss + asked, {"text_loss": loss, "router_loss": asked}
