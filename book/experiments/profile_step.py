"""Where the time of a training step goes, by part of the model.

    python book/experiments/profile_step.py

takes some seconds of one core and writes book/results/profile_step.json and .svg.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from folio import Decoder, Learner, ModelConfig, TextStream, adamw, next_token
from folio.book.record import record
from folio.data.tokens import Tokens
from folio.stages.profile import (
    MARK,
    PASSES,
    PROFILED,
    divide,
    marked,
    top_operations,
)
from folio.viz.markup import Markup
from folio.viz.svg import bar_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
SHAPE = {"vocab_size": 2048, "d_model": 96, "n_layers": 3, "n_heads": 4}
BATCH, LENGTH = 8, 128
SMALLEST = 0.005  # a part with a smaller share is not drawn


def main(rounds: int) -> None:
    """Profile some rounds of steps, keep the medians, record."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Decoder(ModelConfig(max_seq_len=LENGTH, **SHAPE))
    learner = Learner(model, adamw(model))
    tokens = Tokens.from_ids(torch.randint(SHAPE["vocab_size"], (20_000,)).tolist())
    stream = TextStream(tokens, batch=BATCH, length=LENGTH)
    for _ in range(3):  # the first steps are always slow
        learner.update([next(stream)], next_token)
    found = [watched_round(learner, stream) for _ in range(rounds)]
    shares = {
        part: statistics.median(one["shares"].get(part, 0.0) for one in found)
        for part in found[0]["shares"]
    }
    numbers = {
        **SHAPE,
        "batch": BATCH,
        "length": LENGTH,
        "rounds": rounds,
        "steps": PROFILED,
        "shares": shares,
        "events": round(sum(row["calls"] for row in found[0]["operations"])),
        "operations": longest_operations(found),
    }
    print(numbers)
    record("profile_step", numbers, drawing(shares), RESULTS)


def watched_round(learner: Learner, stream: TextStream) -> dict[str, Any]:
    """Shares of the parts, and all operations, of `PROFILED` steps."""
    activities = [ProfilerActivity.CPU]
    with marked(learner.model), profile(activities=activities) as watched:
        for _ in range(PROFILED):
            with record_function(f"{MARK}data"):
                batch = next(stream)
            learner.update([batch], next_token)
    events = list(watched.events())
    parts = divide(events, cuda=False)
    times = {part: sum(row[way] for way in PASSES) for part, row in parts.items()}
    total = sum(times.values())
    return {
        "shares": {part: time / total for part, time in times.items()},
        "operations": top_operations(events, cuda=False, count=1000),
    }


def longest_operations(found: list[dict[str, Any]], count: int = 6) -> list[dict]:
    """Those that take most of the time: their calls in a step, their median share."""
    shares: dict[str, list[float]] = {}
    calls: dict[str, float] = {}
    for one in found:
        total = sum(row["seconds"] for row in one["operations"])
        for row in one["operations"]:
            shares.setdefault(row["name"], []).append(row["seconds"] / total)
            calls[row["name"]] = row["calls"]
    medians = {name: statistics.median(values) for name, values in shares.items()}
    names = sorted(medians, key=medians.__getitem__, reverse=True)[:count]
    return [{"name": n, "calls": calls[n], "share": medians[n]} for n in names]


def drawing(shares: dict[str, float]) -> Markup:
    """A bar for each part that can be seen."""
    kept = {part: round(100 * s) for part, s in shares.items() if s > SMALLEST}
    return bar_chart(
        list(kept),
        list(kept.values()),
        width=480,
        color="train",
        unit=" %",
        description="Shares of a step's time by part",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
