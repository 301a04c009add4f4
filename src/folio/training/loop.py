"""The one loop: pretraining, fine-tuning, rewards and reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from folio.config import UserError
from folio.data.batch import Batch
from folio.training.learner import Learner, Objective

Metrics = dict[str, float]
Hook = Callable[[Learner, Metrics], None]


def train(
    learner: Learner,
    stream: Iterable[Batch],
    objective: Objective,
    *,
    steps: int,
    accumulate: int = 1,
    hooks: Sequence[Hook] = (),
) -> Learner:
    """Update until `steps` updates have been made in all; call each hook after each.

    What differs between stages is what a batch is (the stream) and what the loss is
    (the objective). Batches are pulled as needed and no earlier: a stream that samples
    from the model must see the newest one.
    """
    batches = iter(stream)
    while learner.step < steps:
        micro_batches = list(islice(batches, accumulate))
        if len(micro_batches) < accumulate:
            raise UserError(f"the stream ended at step {learner.step} of {steps}")
        metrics = learner.update(micro_batches, objective)
        for hook in hooks:
            hook(learner, metrics)
    return learner
