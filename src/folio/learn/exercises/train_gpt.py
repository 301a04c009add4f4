"""Exercise: train a GPT on a small text."""

import torch
from torch import nn

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal, expect

TEXT = [0, 1, 2, 3] * 40  # what comes next is certain
SIZES = {"batch": 4, "length": 8}


class Bigram(nn.Module):
    """The smallest language model: a table of what follows what."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Embedding(4, 4)
        nn.init.zeros_(self.scores.weight)

    def forward(self, tokens):
        return self.scores(tokens)


def losses(train, steps: int, lr: float = 0.1, seed: int = 0) -> list[float]:
    torch.manual_seed(0)
    return list(train(Bigram(), TEXT, steps, lr=lr, seed=seed, **SIZES))


def a_loss_for_each_step(train):
    got = losses(train, 3)
    equal(len(got), 3, "3 steps yield 3 losses")
    expect(isinstance(got[0], float), "a loss is a plain number: use loss.item()")


def the_first_loss_is_of_the_untrained_model(train):
    first = losses(train, 3)[0]
    expect(
        abs(first - 1.3863) < 0.001,
        f"four equal scores: the first loss is log 4 = 1.386 nats, yours {first:.3f}",
    )


def the_loss_falls(train):
    got = losses(train, 40)
    expect(
        got[-1] < 0.5,
        f"after 40 steps a table knows this text (loss below 0.5), yours {got[-1]:.2f}",
    )


def every_step_has_its_own_gradient(train):
    from folio.learn.reference import training

    seen, live = [], training.AdamW.step

    def noting(optimizer, lr):
        (weight,) = optimizer.averages
        seen.append(weight.grad.abs().sum().item())
        live(optimizer, lr)

    training.AdamW.step = noting
    try:
        list(train(Bigram(), TEXT, 8, lr=1e-9, **SIZES))
    finally:
        training.AdamW.step = live
    expect(len(seen) == 8, f"8 steps, but the optimizer stepped {len(seen)} times")
    expect(
        seen[-1] < 2 * seen[0],
        "gradients pile up: set them to zero before each backward",
    )


def the_rate_follows_the_schedule(train):
    from folio.learn.reference import training

    rates, live = [], training.AdamW.step
    training.AdamW.step = lambda optimizer, lr: rates.append(lr)
    try:
        list(train(Bigram(), TEXT, 20, lr=1.0, **SIZES))
    finally:
        training.AdamW.step = live
    shown = [round(rate, 2) for rate in (*rates[:2], *rates[-1:])]
    wanted = "warmup_cosine(2, 20) gives 0.5, 1, ..., 0.11"
    expect(shown == [0.5, 1.0, 0.11], f"{wanted}, times lr; yours {shown}")


def it_learns_what_comes_next(train):
    model = Bigram()
    list(train(model, TEXT, 40, lr=0.1, **SIZES))
    got = model.scores.weight.argmax(-1).tolist()
    expect(got == [1, 2, 3, 0], f"after 0, 1, 2, 3 come 1, 2, 3, 0; it learned {got}")


def the_seed_decides_the_batches(train):
    one, other = losses(train, 5, seed=1), losses(train, 5, seed=1)
    expect(one == other, "the same seed must give the same losses")


EXERCISE = Exercise(
    title="Train it on a small text",
    chapter=15,
    place=4,
    week=3,
    symbol="folio.learn.reference.training:train_gpt",
    given=("AdamW", "windows"),
    task="""
    The loop: forward, loss, backward, step. `windows(ids, batch, length, seed)` gives
    endless batches with inputs and targets; AdamW(model).step(lr) moves the weights;
    schedule.warmup_cosine(steps // 10, steps) gives the rate, as a fraction of lr. It
    is a generator: it yields each step's loss.
    """,
    hints=(
        "Make the optimizer, the schedule and the stream once, before the loop.",
        "logits (B, T, V) and targets (B, T): flatten both for F.cross_entropy.",
        "model.zero_grad(); loss.backward(); optimizer.step(lr * rate(step)); "
        "yield loss.item()",
    ),
    checks=(
        a_loss_for_each_step,
        the_first_loss_is_of_the_untrained_model,
        every_step_has_its_own_gradient,
        the_loss_falls,
        it_learns_what_comes_next,
        the_rate_follows_the_schedule,
        the_seed_decides_the_batches,
    ),
    wrong=(
        Wrong(
            "gradients are never set to zero",
            "        model.zero_grad()\n",
            "",
            "gradients pile up",
        ),
        Wrong(
            "inputs are their own targets",
            "data.targets.flatten()",
            "data.inputs.flatten()",
            "it learned [0, 1, 2, 3]",
        ),
        Wrong(
            "no step",
            "        optimizer.step(lr * rate(step))\n",
            "",
            "stepped 0 times",
        ),
        Wrong("one rate for all", "lr * rate(step)", "lr", "warmup_cosine(2, 20)"),
        Wrong(
            "the sum over the batch",
            "data.targets.flatten())",
            'data.targets.flatten(), reduction="sum")',
            "log 4",
        ),
    ),
)
