"""The loss after a number of steps, against the learning rate: three budgets, 3 seeds.

    python book/experiments/learning_rates.py

takes some minutes of one core and writes book/results/learning_rates.json and .svg.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean

import torch

from folio.book.record import record
from folio.data import tales
from folio.data.text import TextStream, validation_windows
from folio.data.tokens import Tokens
from folio.evals.perplexity import mean_loss
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import Schedule, constant, warmup_cosine
from folio.text.char import CharTokenizer
from folio.training.learner import Learner
from folio.training.loop import train
from folio.training.nonfinite import NonFiniteError
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.128)
LENGTH, BATCH = 32, 8


def plans(steps: int) -> dict[str, tuple[int, Schedule]]:
    """Name of a plan -> how many steps, and what the rate does meanwhile."""
    return {
        f"{steps // 4} steps, constant": (steps // 4, constant()),
        f"{steps} steps, constant": (steps, constant()),
        f"{steps} steps, warm-up, cosine": (
            steps,
            warmup_cosine(steps // 10, steps),
        ),
    }


def main(steps: int, seeds: int) -> None:
    """Train with every rate, plan and seed; record the held-out losses."""
    torch.set_num_threads(1)
    text = {
        split: "\n".join(tales.documents(0, split=split, count=count))
        for split, count in (("train", 300), ("validation", 12))
    }
    tokenizer = CharTokenizer.train(text.values())
    tokens = {
        split: Tokens.from_ids(tokenizer.encode(t), vocab_size=tokenizer.vocab_size)
        for split, t in text.items()
    }
    start, rows = time.perf_counter(), []
    for name, (count, schedule) in plans(steps).items():
        for rate in RATES:
            losses = [
                held_out_loss(tokens, rate, count, schedule, seed)
                for seed in range(seeds)
            ]
            row = {"plan": name, "rate": rate, "loss": mean(losses), "losses": losses}
            rows.append(row)
            print(f"{name:28} {rate:.6f} {row['loss']:.3f}", flush=True)
    best = {
        name: min((row for row in rows if row["plan"] == name), key=lambda r: r["loss"])
        for name in plans(steps)
    }
    numbers = {
        "steps": steps,
        "short": steps // 4,
        "seeds": seeds,
        "parameters": sum(p.numel() for p in model_of(tokens, 0).parameters()),
        "seconds": round(time.perf_counter() - start, 1),
        "best": [
            {"plan": name, "rate": row["rate"], "loss": row["loss"]}
            for name, row in best.items()
        ],
        "rates": len(RATES),
        "largest": [row for row in rows if row["rate"] == RATES[-1]],
        "rows": rows,
    }
    record("learning_rates", numbers, drawing(rows), RESULTS)


def model_of(tokens: dict[str, Tokens], seed: int) -> Decoder:
    """A small decoder, the same for every rate of a seed."""
    torch.manual_seed(seed)
    shape = ModelConfig(
        vocab_size=tokens["train"].vocab_size,
        max_seq_len=LENGTH,
        d_model=32,
        n_layers=2,
        n_heads=2,
    )
    return Decoder(shape)


def held_out_loss(
    tokens: dict[str, Tokens], rate: float, steps: int, schedule: Schedule, seed: int
) -> float:
    """The loss on unseen stories after `steps`; infinite where the run broke off."""
    model = model_of(tokens, seed)
    stream = TextStream(tokens["train"], batch=BATCH, length=LENGTH, seed=seed)
    learner = Learner(model, adamw(model, rate), schedule)
    try:
        train(learner, stream, next_token, steps=steps)
    except NonFiniteError:
        return float("inf")
    return mean_loss(model, validation_windows(tokens["validation"], LENGTH, 64))


def drawing(rows: list[dict]) -> str:
    """One curve for each plan, with a band from the lowest to the highest seed."""
    names = list(dict.fromkeys(row["plan"] for row in rows))
    lines = []
    for name, color in zip(names, ("other", "validation", "train"), strict=True):
        mine = [row for row in rows if row["plan"] == name]
        lines.append(
            Series(
                name.replace(" warm-up,", ""),  # it must fit behind the line
                [row["rate"] for row in mine],
                [row["loss"] for row in mine],
                color=color,
                dots=True,
                low=[min(row["losses"]) for row in mine],
                high=[max(row["losses"]) for row in mine],
            )
        )
    return line_chart(
        lines,
        width=620,
        height=320,
        x_label="learning rate",
        y_label="held-out loss, nats per character",
        x_log=True,
        description="Each curve falls to a lowest point and rises again.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    main(options.steps, options.seeds)
