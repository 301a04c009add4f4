"""Reading far past the trained length: all keys, a window, a window and its sinks.

    python book/experiments/streams.py

trains three seeds of a small model on the tales, with full attention; each then reads
text that is many times longer. Takes some minutes of one core, and writes
book/results/streams.json and .svg.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from folio import BPETokenizer, Decoder, Learner, ModelConfig, adamw, next_token, train
from folio.book.record import record
from folio.data import tales
from folio.data.batch import Batch
from folio.data.text import next_token_batch
from folio.infer.cache import make_caches
from folio.infer.stream import SINKS, score, streaming
from folio.model.heads import token_logprobs
from folio.optim.schedule import warmup_stable_decay
from folio.viz.markup import Markup
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
LENGTH, VOCABULARY, BATCH = 64, 384, 8  # what the model is trained on
TEXTS, TOKENS, ALL_KEYS = 4, 4096, 1024  # what it then reads; all keys cost a square
STORIES, HELD_OUT = 3000, 120
EVERY = 250  # steps between two looks at the first token's share
COLORS = {
    "all keys": "gradient",
    "window, no sinks": "validation",
    "window and sinks": "train",
    "read afresh": "rate",
}


def tales_text(seed: int, count: int) -> str:
    """Many tales, one after another."""
    return "\n\n".join(tales.documents(seed=seed, count=count))


def rows(ids: Tensor, first: int, seed: int) -> Iterator[Batch]:
    """Pieces from anywhere in the text, each behind the token `first`."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.full((BATCH, 1), first)
    while True:
        places = torch.randint(len(ids) - LENGTH, (BATCH, 1), generator=generator)
        pieces = ids[places + torch.arange(LENGTH)]
        yield next_token_batch(torch.cat([start, pieces], 1))


def trained(
    seed: int, tokenizer: BPETokenizer, ids: Tensor, steps: int, look: list[list[int]]
) -> tuple[Decoder, list[dict[str, float]]]:
    """A small model with full attention and rotary positions, and how sinks formed.

    Every `EVERY` steps it reads the texts `look`, and the share of attention that
    the first token gets in the first layer is noted.
    """
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        max_seq_len=LENGTH,
        d_model=48,
        n_layers=2,
        n_heads=4,
    )
    model = Decoder(config)
    schedule = warmup_stable_decay(min(100, steps // 5), steps)
    learner = Learner(model, adamw(model, 8e-3), schedule)
    growth = []

    def note(learner: Learner, metrics: dict[str, float]) -> None:
        if learner.step % EVERY == 0:
            first = shares_of_the_first(model, look)[0]
            share = sum(first) / len(first)
            growth.append({"step": learner.step, "share": round(share, 4)})

    stream = rows(ids, tokenizer.end_of_text, seed)
    train(learner, stream, next_token, steps=steps, hooks=[note])
    return model.eval(), growth


@torch.no_grad()
def with_all_keys(model: Decoder, ids: list[int]) -> Tensor:
    """Each token sees all before it, past the trained length too: losses (N - 1,)."""
    caches = make_caches(model.config, 1, len(ids))
    tokens, found = torch.tensor([ids]), []
    for start in range(0, len(ids) - 1, 256):
        targets = tokens[:, start + 1 : start + 257]
        end = start + targets.shape[1]
        places = torch.arange(start, end)[None]
        hidden, _ = model.hidden(tokens[:, start:end], places, caches)
        found.append(-token_logprobs(model.read(hidden), targets)[0])
    return torch.cat(found)


@torch.no_grad()
def afresh(model: Decoder, ids: list[int]) -> Tensor:
    """Each token sees the very first and the newest, read anew: losses (N - 1,).

    A row judges its last 4 tokens, which see 60 to 64 others: one row per token
    would take four times as long.
    """
    tokens, judged = torch.tensor(ids), 4
    start = tokens[None, : LENGTH + 1]
    losses = torch.empty(len(ids) - 1)
    losses[:LENGTH] = -model(start[:, :-1], targets=start[:, 1:]).logprobs[0]
    ends = torch.arange(LENGTH + judged, len(ids) + judged - 1, judged)
    ends = ends.clamp(max=len(ids) - 1)[:, None]  # (rows, 1)
    newest = tokens[ends + torch.arange(1 - LENGTH, 1)]
    row = torch.cat([tokens[:1].expand(len(ends), 1), newest], 1)
    logprobs = model(row[:, :-1], targets=row[:, 1:]).logprobs
    losses[ends - torch.arange(judged, 0, -1)] = -logprobs[:, -judged:]
    return losses


def ways(model: Decoder) -> dict[str, Callable[[list[int]], Tensor]]:
    """Four ways to read; the last three look at as many tokens as in training."""
    alone = streaming(model, LENGTH, 0)
    with_sinks = streaming(model, LENGTH - SINKS, SINKS)
    return {
        "all keys": lambda ids: with_all_keys(model, ids[: ALL_KEYS + 1]),
        "window, no sinks": lambda ids: -score(alone, ids),
        "window and sinks": lambda ids: -score(with_sinks, ids),
        "read afresh": lambda ids: afresh(model, ids),
    }


@torch.no_grad()
def shares_of_the_first(model: Decoder, texts: list[list[int]]) -> list[list[float]]:
    """How much attention the first token gets, by layer and head.

    A mean over the later half of the trained length; an even share were about 0.02.
    """
    tokens = torch.tensor([ids[:LENGTH] for ids in texts])
    maps = model.attention_maps(tokens)  # (L, B, H, T, T)
    shares = maps[:, :, :, LENGTH // 2 :, 0].mean((1, 3))
    return [[round(share, 4) for share in layer] for layer in shares.tolist()]


def bytes_kept(model: Decoder, tokens: int) -> dict[str, int]:
    """What the caches of all layers hold after so many tokens, in fp32."""
    window = streaming(model).config
    rolling = make_caches(window, 1, window.window + window.sinks + 1)
    full = make_caches(model.config, 1, tokens)
    sizes = {
        name: sum(cache.k.nbytes + cache.v.nbytes for cache in caches)
        for name, caches in (("full", full), ("rolling", rolling))
    }
    return {"tokens": tokens, **sizes}


def main(seeds: int, steps: int) -> None:
    start = time.perf_counter()
    text = tales_text(0, STORIES)
    tokenizer = BPETokenizer.train([text[:500_000]], VOCABULARY)
    ids = torch.tensor(tokenizer.encode(text))
    unseen = tokenizer.encode(tales_text(1, HELD_OUT))
    first = tokenizer.end_of_text
    texts = [
        [first, *unseen[place : place + TOKENS]]
        for place in range(0, TEXTS * TOKENS, TOKENS)
    ]
    rows_of_seeds, losses = [], {name: [] for name in COLORS}
    for seed in range(1, seeds + 1):
        model, growth = trained(seed, tokenizer, ids, steps, texts)
        row = {"seed": seed, "shares": shares_of_the_first(model, texts)}
        row["growth"] = growth
        row["largest"] = max(share for layer in row["shares"] for share in layer)
        for name, way in ways(model).items():
            found = torch.stack([way(ids) for ids in texts]).mean(0)
            losses[name].append(found)
            row[name] = found[LENGTH:].mean().exp().item()
        rows_of_seeds.append(row)
        print(row, f"{time.perf_counter() - start:.0f} s", flush=True)
    means = {name: torch.stack(found).mean(0) for name, found in losses.items()}
    before = means["all keys"][LENGTH // 2 : LENGTH].mean().exp().item()
    numbers = {
        "steps": steps,
        "length": LENGTH,
        "tokens": TOKENS,
        "times": TOKENS // LENGTH,
        "all_keys_tokens": ALL_KEYS,
        "sinks": SINKS,
        "window": LENGTH - SINKS,
        "stream": len(unseen),
        "seconds": round(time.perf_counter() - start, 1),
        "before": before,
        "beyond": {
            name: found[LENGTH:].mean().exp().item() for name, found in means.items()
        },
        "jump": {  # the 16 tokens before the first one leaves, and the 64 after
            name: [
                found[LENGTH - 16 : LENGTH].mean().exp().item(),
                found[LENGTH : 2 * LENGTH].mean().exp().item(),
            ]
            for name, found in means.items()
        },
        "seeds": rows_of_seeds,
        "memory": [bytes_kept(model, count) for count in (64, 1_000, 10_000, 100_000)],
    }
    record("streams", numbers, drawing(losses), RESULTS)


def drawing(losses: dict[str, list[Tensor]]) -> Markup:
    """Perplexity against position; bands reach from the best seed to the worst."""
    lines = []
    for name, found in losses.items():
        seeds = torch.stack(found)  # (seeds, N)
        edges = torch.logspace(4, 12, 17, base=2).round().long().tolist()
        spans = [s for s in pairwise([0, *edges]) if s[1] <= seeds.shape[1]]
        x = [max(start, 8) * (end / max(start, 8)) ** 0.5 for start, end in spans]
        y = torch.stack([seeds[:, start:end].mean(1).exp() for start, end in spans])
        dashed = name == "read afresh"
        band = None if dashed else (y.amin(1).tolist(), y.amax(1).tolist())
        mean = y.log().mean(1).exp().tolist()
        low, high = band or (None, None)
        color = COLORS[name]
        lines.append(
            Series(name, x, mean, color=color, dashed=dashed, low=low, high=high)
        )
    return line_chart(
        lines,
        width=700,
        height=320,
        x_label="position in the text, tokens",
        y_label="perplexity",
        x_log=True,
        y_log=True,
        description="Perplexity of a long text, read in four ways",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2500)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.steps)
