"""What is read off the last hidden states."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**24  # numbers of a (tokens, V) matrix; 64 MB in fp32


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target) at each place, in fp32 or better: (..., V), (...) -> (...).

    >>> token_logprobs(torch.zeros(1, 1, 4), torch.tensor([[2]])).exp()
    tensor([[0.2500]])
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return -flat.view(targets.shape)


def token_entropy(logits: Tensor) -> Tensor:
    """How undecided each place is, in nats, in fp32 or better: (..., V) -> (...).

    >>> token_entropy(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]])).exp()
    tensor([2., 1.])
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    logprobs = logits.log_softmax(-1)
    return -torch.special.xlogy(p := logprobs.exp(), p).sum(-1)


def logprobs_and_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Both in one reading: (..., V), (...) -> (..., 2); entropy is no loss here."""
    entropy = token_entropy(logits.detach())
    return torch.stack([token_logprobs(logits, targets), entropy], -1)


def chunked_logprobs(
    read: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    vocab_size: int,
    at_once: int = LOGITS_AT_ONCE,
    measure: Callable[[Tensor, Tensor], Tensor] = token_logprobs,
) -> Tensor:
    """`token_logprobs(read(hidden), targets)` without all of the logits in memory.

    hidden (..., D), targets (...) -> (...), or what else `measure` gives. A vocabulary
    of 128 k makes the logits the largest tensor of all: so `read`, which maps (N, D) to
    (N, V), sees some tokens at a time, and their logits are computed again for the
    gradient. Up to `at_once`
    numbers nothing is cut.
    """
    rows = max(at_once // vocab_size, 1)
    if targets.numel() <= rows:
        return measure(read(hidden), targets)

    def part(hidden: Tensor, targets: Tensor) -> Tensor:
        return measure(read(hidden), targets)

    tokens, wanted = hidden.flatten(0, -2).split(rows), targets.flatten().split(rows)
    done = [
        checkpoint(part, h, t, use_reentrant=False)
        for h, t in zip(tokens, wanted, strict=True)
    ]
    return torch.cat(done).unflatten(0, targets.shape)
