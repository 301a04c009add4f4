"""Writing with a cache and without: seconds of processor time, token by token.

    python book/experiments/caching.py

takes half a minute of one core and writes book/results/caching.json and .svg.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from folio import Decoder, ModelConfig
from folio.book.record import record
from folio.infer.generate import Context
from folio.viz.markup import Markup
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
EVERY = 16  # tokens between two looks at the clock


@torch.no_grad()
def with_cache(model: Decoder, tokens: int) -> tuple[list[int], list[float]]:
    """Greedy tokens, and the processor time spent up to every `EVERY`-th."""
    context, written, times = Context(model, tokens), [1], []
    start = time.process_time()
    while len(written) < tokens:
        written.append(context.read(written[-1:]).argmax(-1).item())
        if len(written) % EVERY == 0:
            times.append(time.process_time() - start)
    return written, times


@torch.no_grad()
def without(model: Decoder, tokens: int) -> tuple[list[int], list[float]]:
    """The same, all of the text read anew for every token."""
    written, times = [1], []
    start = time.process_time()
    while len(written) < tokens:
        hidden, _ = model.hidden(torch.tensor([written]))
        written.append(model.read(hidden[:, -1]).argmax(-1).item())
        if len(written) % EVERY == 0:
            times.append(time.process_time() - start)
    return written, times


def main(tokens: int, rounds: int) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=256, max_seq_len=tokens, d_model=128, n_layers=4, n_heads=4
    )
    model = Decoder(config).eval()
    ways = {"with a cache": with_cache, "without": without}
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    texts = []
    for _ in range(rounds):  # in turn, so that both meet the same weather
        for name, way in ways.items():
            text, times = way(model, tokens)
            texts.append(text)
            found[name].append(times)
    medians = {
        name: [statistics.median(at) for at in zip(*times, strict=True)]
        for name, times in found.items()
    }
    fast, slow = medians["with a cache"], medians["without"]
    numbers = {
        "tokens": tokens,
        "rounds": rounds,
        "same_tokens": all(text == texts[0] for text in texts),
        "cached_s": fast[-1],
        "uncached_s": slow[-1],
        "ratio": slow[-1] / fast[-1],
        "ratio_halfway": slow[len(slow) // 2 - 1] / fast[len(fast) // 2 - 1],
        "every": EVERY,
        "times": medians,
    }
    print({k: v for k, v in numbers.items() if k != "times"})
    record("caching", numbers, drawing(medians, tokens), RESULTS)


def drawing(medians: dict[str, list[float]], tokens: int) -> Markup:
    """Time spent so far against tokens written."""
    places = list(range(EVERY, tokens + 1, EVERY))
    lines = [
        Series("without", places, medians["without"], color="validation"),
        Series("with a cache", places, medians["with a cache"], color="train"),
    ]
    return line_chart(
        lines,
        width=620,
        height=270,
        x_label="tokens written",
        y_label="processor time so far, seconds",
        description="Time to write a text, with a cache and without",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.rounds)
