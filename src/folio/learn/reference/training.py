"""Train a small GPT, and sample from it as it learns: every step is in sight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.data import text
from folio.infer import sampling
from folio.optim import adamw, groups, schedule


class AdamW:
    """The package's `adamw_step` on every weight; decay as `decay_groups` says."""

    def __init__(self, model: nn.Module, weight_decay: float = 0.1):
        self.groups = groups.decay_groups(model, weight_decay)
        self.steps = 0
        self.averages = {
            p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()
        }

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move every weight against its gradient."""
        self.steps += 1
        for group in self.groups:
            for p in group["params"]:
                decay = group["weight_decay"]
                averages = self.averages[p]
                adamw.adamw_step(
                    p, p.grad, *averages, self.steps, lr=lr, weight_decay=decay
                )


def windows(ids: Sequence[int], batch: int, length: int, seed: int = 0):
    """Endless batches of random pieces of the text, made by `next_token_batch`."""
    known, chance = torch.tensor(ids), torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(known) - length, (batch, 1), generator=chance)
        yield text.next_token_batch(known[starts + torch.arange(length + 1)])


def train_gpt(
    model: nn.Module,
    ids: Sequence[int],
    steps: int,
    *,
    batch: int = 16,
    length: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
) -> Iterator[float]:
    """Learn a text: yields the loss (nats per token) of each of `steps` steps.

    Batches come from `windows`, steps are `AdamW`'s, and the rate follows the package's
    `warmup_cosine`, warming up over a tenth of the steps.
    """
    optimizer = AdamW(model)
    rate = schedule.warmup_cosine(steps // 10, steps)
    stream = windows(ids, batch, length, seed)
    for step in range(steps):
        data = next(stream)
        logits = model(data.inputs)  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), data.targets.flatten())
        model.zero_grad()
        loss.backward()
        optimizer.step(lr * rate(step))
        yield loss.item()


@torch.no_grad()
def write_on(
    model: nn.Module,
    ids: Sequence[int],
    count: int,
    *,
    length: int = 32,
    temperature: float = 0.8,
    seed: int = 0,
) -> list[int]:
    """`ids` and `count` more, each by what the model says of the last `length`."""
    chance = torch.Generator().manual_seed(seed)
    chosen, how = list(ids), sampling.Sampling(temperature)
    for _ in range(count):
        seen = torch.tensor([chosen[-length:]])  # (1, T)
        logits: Tensor = model(seen)[:, -1]  # (1, V)
        chosen.append(sampling.choose(logits, how, chance).item())
    return chosen


def samples_by_step(
    losses: Iterator[float], write: Callable[[], str], every: int
) -> Iterator[tuple[int, float, str]]:
    """(steps done, loss, sample) at the first step, and after each `every` steps.

    `losses` trains a model a step at a time as it is read; `write` asks the model, as
    it is now, for a sample.
    """
    for step, loss in enumerate(losses, 1):
        if step == 1 or step % every == 0:
            yield step, loss, write()
