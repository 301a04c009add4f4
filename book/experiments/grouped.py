"""Fewer heads of keys: trained so from the start, or made of a model that has them all.

    python book/experiments/grouped.py

trains small models on the tales, with eight heads of queries and 8, 2 or 1 of keys and
values, three seeds each; then it converts those with 8 into ones with fewer (Ainslie et
al. 2023). Takes some minutes of one core; writes book/results/grouped.json and .svg.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from folio import (
    BPETokenizer,
    Decoder,
    Learner,
    ModelConfig,
    TextStream,
    Tokens,
    adamw,
    next_token,
    train,
)
from folio.book.record import record
from folio.data import tales
from folio.optim.schedule import warmup_stable_decay
from folio.viz.markup import Markup
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
HEADS, GROUPS, LENGTH, BATCH = 8, (8, 2, 1), 64, 8
SHARE = 0.05  # of the training, after a conversion


def mean_of_heads(weight: Tensor, groups: int) -> Tensor:
    """The rows of `HEADS` heads -> those of `groups`, each the mean of its own."""
    return weight.unflatten(0, (groups, HEADS // groups, -1)).mean(1).flatten(0, 1)


def first_of_heads(weight: Tensor, groups: int) -> Tensor:
    """The same, but each group keeps its first head."""
    return weight.unflatten(0, (groups, HEADS // groups, -1))[:, 0].flatten(0, 1)


def converted(
    model: Decoder, groups: int, pool: Callable[[Tensor, int], Tensor]
) -> Decoder:
    """The same weights, but for keys and values, of which there are fewer heads."""
    smaller = Decoder(replace(model.config, n_kv_heads=groups))
    weights = {
        name: pool(weight, groups)
        if ".attention.key." in name or ".attention.value." in name
        else weight
        for name, weight in model.state_dict().items()
    }
    smaller.load_state_dict(weights)
    return smaller


def learn(model: Decoder, tokens: Tokens, steps: int, seed: int, lr: float) -> None:
    """Train `model` in place."""
    schedule = warmup_stable_decay(min(50, steps // 4), steps)
    learner = Learner(model, adamw(model, lr), schedule)
    stream = TextStream(tokens, batch=BATCH, length=LENGTH, seed=seed)
    train(learner, stream, next_token, steps=steps)


@torch.no_grad()
def loss_of(model: Decoder, ids: Tensor) -> float:
    """Mean loss of held-out rows (N, T + 1)."""
    model.eval()
    return -model(ids[:, :-1], targets=ids[:, 1:]).logprobs.mean().item()


def main(seeds: int, steps: int) -> None:
    start = time.perf_counter()
    text = "\n\n".join(tales.documents(seed=0, count=3000))
    tokenizer = BPETokenizer.train([text[:500_000]], 384)
    tokens = Tokens.from_ids(tokenizer.encode(text))
    unseen = tokenizer.encode("\n\n".join(tales.documents(seed=1, count=120)))
    count = len(unseen) // (LENGTH + 1)
    held_out = torch.tensor(unseen[: count * (LENGTH + 1)]).view(count, LENGTH + 1)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        max_seq_len=LENGTH,
        d_model=64,
        n_layers=2,
        n_heads=HEADS,
    )
    more = max(round(SHARE * steps), 2)
    rows = []
    for seed in range(1, seeds + 1):
        models = {}
        for groups in GROUPS:
            torch.manual_seed(seed)
            models[groups] = Decoder(replace(config, n_kv_heads=groups))
            learn(models[groups], tokens, steps, seed, 4e-3)
            loss = loss_of(models[groups], held_out)
            rows.append(
                {"seed": seed, "groups": groups, "how": "trained", "after": loss}
            )
        for groups in GROUPS[1:]:
            for name, pool in (("mean", mean_of_heads), ("first", first_of_heads)):
                model = converted(models[HEADS], groups, pool)
                before = loss_of(model, held_out)
                learn(model, tokens, more, seed + 100, 2e-3)
                after = loss_of(model, held_out)
                row = {"seed": seed, "groups": groups, "how": name}
                rows.append(row | {"before": before, "after": after})
        print(rows[-7:], f"{time.perf_counter() - start:.0f} s", flush=True)
    numbers = {
        "steps": steps,
        "more_steps": more,
        "seconds": round(time.perf_counter() - start, 1),
        "means": {
            f"{how}_{groups}": mean_over_seeds(rows, how, groups)
            for how in ("trained", "mean", "first")
            for groups in GROUPS
            if how == "trained" or groups != HEADS
        },
        "rows": rows,
    }
    record("grouped", numbers, drawing(numbers["means"]), RESULTS)


def mean_over_seeds(rows: list[dict], how: str, groups: int) -> dict[str, float]:
    """Means and extremes of what was measured."""
    own = [row for row in rows if row["how"] == how and row["groups"] == groups]
    after = [row["after"] for row in own]
    found = {"after": sum(after) / len(after), "low": min(after), "high": max(after)}
    if "before" in own[0]:
        before = [row["before"] for row in own]
        found |= {"before": sum(before) / len(before)}
        found |= {"before_low": min(before), "before_high": max(before)}
    return found


def drawing(means: dict[str, dict[str, float]]) -> Markup:
    """Loss against the number of query heads that share one head of keys."""
    lines = []
    for how, name, color, when in (
        ("mean", "mean", "gradient", "before"),
        ("first", "first head kept", "validation", "before"),
        ("mean", "mean, trained on", "gradient", "after"),
        ("first", "first, trained on", "validation", "after"),
        ("trained", "trained so", "train", "after"),
    ):
        groups = [g for g in GROUPS if how == "trained" or g != HEADS]
        rows = [means[f"{how}_{g}"] for g in groups]
        x, y = [HEADS / g for g in groups], [row[when] for row in rows]
        if how != "trained":
            x, y = [1.0, *x], [means[f"trained_{HEADS}"]["after"], *y]
        dashed = when == "before"
        lines.append(Series(name, x, y, color=color, dots=True, dashed=dashed))
    return line_chart(
        lines,
        width=640,
        height=290,
        x_label="heads of queries that share keys, H / G",
        y_label="held-out loss, nats per token",
        description="Loss of models with fewer heads of keys and values",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.steps)
