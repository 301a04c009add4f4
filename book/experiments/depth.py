"""A stack of many blocks, whole and with a part taken out: who learns?

    python book/experiments/depth.py

trains four kinds of a deep, narrow decoder on stories, three seeds each, and measures
the residual stream of the whole one. It takes some minutes of one core and writes
book/results/depth and book/results/residual_stream, as .json and .svg.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from folio.book.record import record
from folio.data import tales
from folio.model.attention import Cache, Shared
from folio.model.config import gpt2_like
from folio.model.decoder import Block, Decoder
from folio.optim.adamw import adamw
from folio.scratch.gpt import batches
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
LENGTH, ROWS, LR, WARM_UP = 32, 16, 3e-3, 20


class NoNorms(Block):
    """Residual connections alone."""

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        x = x + self.attention(x, shared, cache)
        return x + self.mlp(x)


class NoResiduals(Block):
    """Norms alone: each part replaces what it has read."""

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        x = self.attention(self.attention_norm(x), shared, cache)
        return self.mlp(self.mlp_norm(x))


class PostNorm(Block):
    """The norm behind the sum, as in the transformer of 2017."""

    def forward(self, x: Tensor, shared: Shared, cache: Cache | None = None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, shared, cache))
        return self.mlp_norm(x + self.mlp(x))


KINDS = {
    "pre-norm": (Block, "train"),
    "post-norm": (PostNorm, "rate"),
    "no norms": (NoNorms, "gradient"),
    "no residuals": (NoResiduals, "validation"),
}


def deep_decoder(kind: str, vocabulary: int, layers: int, seed: int) -> Decoder:
    """All kinds begin with the same matrices, of deviation 1 / sqrt(inputs)."""
    torch.manual_seed(seed)
    shape = {"d_model": 48, "n_layers": layers, "n_heads": 4, "max_seq_len": LENGTH}
    model = Decoder(gpt2_like(vocab_size=vocabulary, **shape))
    for block in model.blocks:
        block.__class__ = KINDS[kind][0]
        for weight in block.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return model


def losses(model: Decoder, ids: np.ndarray, steps: int, seed: int) -> list[float]:
    """Train, and give the loss of each step."""
    optimizer, stream, found = adamw(model, LR), batches(ids, ROWS, LENGTH, seed), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARM_UP)
        tokens, targets = (torch.from_numpy(part) for part in next(stream))
        logits = model(tokens).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        found.append(loss.item())
    return found


@torch.no_grad()
def likeness(model: Decoder, tokens: Tensor) -> float:
    """Mean cosine between different tokens of a text behind the last block."""
    x, shared = model.embed(tokens)
    for block in model.blocks:
        x = block(x, shared)
    x = F.normalize(x - x.mean(-1, keepdim=True), dim=-1)
    others = x.shape[1] - 1
    return (((x @ x.transpose(1, 2)).sum(-1) - 1) / others).mean().item()


@torch.no_grad()
def stream_sizes(model: Decoder, tokens: Tensor) -> dict[str, list[float]]:
    """Root mean squares: of the stream between the blocks, and of what parts add."""
    sizes: dict[str, list[float]] = {"stream": [], "attention": [], "mlp": []}

    def size(x: Tensor) -> float:
        return round(x.square().mean().sqrt().item(), 4)

    x, shared = model.embed(tokens)
    for block in model.blocks:
        sizes["stream"].append(size(x))
        sizes["attention"].append(
            size(added := block.attention(block.attention_norm(x), shared))
        )
        x = x + added
        sizes["mlp"].append(size(added := block.think(block.mlp_norm(x), shared)))
        x = x + added
    sizes["stream"].append(size(x))
    return sizes


def main(layers: int, steps: int, seeds: int) -> None:
    """Train every kind, measure, record."""
    text = "\n".join(tales.documents(seed=0, count=120))
    characters = sorted(set(text))
    ids = np.array([characters.index(character) for character in text])
    counts = np.bincount(ids) / len(ids)
    frequencies = float(-(counts * np.log(counts)).sum())
    start, curves, streams = time.process_time(), {}, {}
    alike: dict[str, list[float]] = {}
    for seed in range(seeds):
        for kind in KINDS:
            model = deep_decoder(kind, len(characters), layers, seed)
            tokens = torch.from_numpy(next(batches(ids, ROWS, LENGTH, 99))[0])
            before = stream_sizes(model, tokens)
            curve = losses(model, ids, steps, seed)
            curves.setdefault(kind, []).append([round(loss, 4) for loss in curve])
            alike.setdefault(kind, []).append(likeness(model, tokens))
            print(f"{kind:13} {seed} {statistics.mean(curve[-20:]):.3f}", flush=True)
            if kind == "pre-norm" and seed == 0:
                streams = {"before": before, "after": stream_sizes(model, tokens)}
    about = {"layers": layers, "steps": steps, "seeds": seeds}
    final = {
        kind: [round(statistics.mean(curve[-20:]), 3) for curve in runs]
        for kind, runs in curves.items()
    }
    seconds = round(time.process_time() - start, 1)
    numbers = about | {
        "seconds": seconds,
        "vocabulary": len(characters),
        "frequencies": round(frequencies, 3),
        "final": final,
        "mean": {kind: round(statistics.mean(own), 3) for kind, own in final.items()},
        "alike": {kind: round(statistics.mean(own), 3) for kind, own in alike.items()},
        "curves": curves,
    }
    record("depth", numbers, drawing(curves, frequencies), RESULTS)
    record("residual_stream", about | streams, stream_drawing(streams), RESULTS)


def drawing(curves: dict[str, list[list[float]]], frequencies: float) -> str:
    """The mean loss of each kind, smoothed, and the range over seeds."""
    lines = []
    for kind, runs in curves.items():
        means = np.array([np.convolve(run, np.ones(9) / 9, "valid") for run in runs])
        at = range(5, 5 + means.shape[1])
        band = {"low": means.min(0).tolist(), "high": means.max(0).tolist()}
        mean = means.mean(0).tolist()
        lines.append(Series(kind, at, mean, color=KINDS[kind][1], **band))
    steps = len(next(iter(curves.values()))[0])
    alone = Series(
        "frequencies", [1, steps], [frequencies] * 2, color="other", dashed=True
    )
    names = {"y_label": "loss, nats per character"}
    return line_chart([*lines, alone], width=640, height=230, **names)


def stream_drawing(streams: dict[str, dict[str, list[float]]]) -> str:
    """Sizes against depth, after training, and the stream's before."""
    after, before = streams["after"], streams["before"]["stream"]
    edges = range(len(before))
    middles = [edge + 0.5 for edge in edges[:-1]]
    lines = [
        Series("stream", edges, after["stream"], color="train", dots=True),
        Series("stream, untrained", edges, before, color="other", dashed=True),
        Series("mlp adds", middles, after["mlp"], color="gradient", dots=True),
        Series("attention adds", middles, after["attention"], color="validation"),
    ]
    names = {"x_label": "blocks passed", "y_label": "root mean square"}
    return line_chart(lines, width=640, height=220, **names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    main(asked.layers, asked.steps, asked.seeds)
