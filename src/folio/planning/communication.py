"""What devices send one another in a step: bytes per device, by kind.

A collective over n devices in a ring passes each byte through every device but one
(Patarasuk & Yuan 2009): a gather or a reduction sends (n - 1) / n of the whole, and an
all-reduce, which is a reduction and a gather, twice that.
"""

from __future__ import annotations

from folio.model.config import ModelConfig
from folio.planning.memory import Sharding, parameters_of
from folio.planning.work import Work


def all_gather(size: float, devices: int) -> float:
    """Bytes that each device sends so that all hold the `size` bytes of all.

    >>> all_gather(8e9, 4)
    6000000000.0
    """
    return size * (devices - 1) / devices


def reduce_scatter(size: float, devices: int) -> float:
    """Bytes that each sends so that each holds its part of the sum."""
    return size * (devices - 1) / devices


def all_reduce(size: float, devices: int) -> float:
    """Bytes that each sends so that all hold the whole sum.

    >>> all_reduce(8e9, 4)
    12000000000.0
    """
    return reduce_scatter(size, devices) + all_gather(size, devices)


def sent(config: ModelConfig, work: Work, sharding: Sharding) -> dict[str, float]:
    """Bytes that a device sends in one step, as {"gradients": ..., "weights": ...}.

    Gradients are summed and, where the weights or their updates are sharded, weights
    gathered: once for ZeRO-1 and 2, which send what DDP does; before the forward and
    again before the backward of every micro-batch for FSDP, half as much more
    (Rajbhandari et al. 2020, section 7). ZeRO-2 can't let gradients wait for the last
    micro-batch; our FSDP does, and pays in memory. Tensor parallelism sends activations
    instead.
    """
    own = parameters_of(config, sharding.tensor).total
    numbers = work.numbers
    gradients, weights = numbers.gradient * own, min(numbers.weight, 4) * own
    n, times = sharding.copies, work.accumulate
    found = {}
    if n > 1 and sharding.optimizer == 1:
        found["gradients"] = all_reduce(gradients, n)
    elif n > 1:
        late = sharding.gradients == 1 or sharding.weights > 1
        rounds = 1 if late else times
        found["gradients"] = rounds * reduce_scatter(gradients, n)
        found["weights"] = all_gather(weights, n)
        if sharding.weights > 1:
            found["weights"] = 2 * times * all_gather(weights, n)
    if sharding.tensor > 1:
        found["activations"] = times * activations(config, work, sharding.tensor)
    return found


def activations(config: ModelConfig, work: Work, tensor: int) -> float:
    """What tensor parallelism sends in one micro-batch.

    Attention and the feed-forward part each end, and in backward begin, with one
    all-reduce of (B, T, D): four a layer, six where the forward is computed again
    (Shoeybi et al. 2019, section 3); one for the embedding, and one for the head.
    """
    rows = work.numbers.product * work.tokens * config.d_model
    each = 6 if work.checkpoint_layers else 4
    return (each * config.n_layers + 2) * all_reduce(rows, tensor)
