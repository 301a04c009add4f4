"""RMSNorm beside LayerNorm: the same models, data and steps, three seeds each.

    python book/experiments/norms.py

takes some minutes of one core and writes book/results/norms.json and .svg.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from folio.book.record import record
from folio.data import tales
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.norm import LayerNorm, RMSNorm, layer_norm, rms_norm
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.text.char import CharTokenizer
from folio.training.learner import Learner
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
COLORS = {"rmsnorm": "train", "layernorm": "validation"}
SEEDS = (1, 2, 3)
LENGTH, BATCH, LAYERS, WIDTH = 64, 8, 4, 96


def main(steps: int) -> None:
    """Train both with each seed, a step of each in turn; then time the norms alone."""
    text = "\n".join(tales.documents(seed=0, count=400))
    unseen = "\n".join(tales.documents(seed=0, split="validation", count=25))
    tokenizer = CharTokenizer.train([text + unseen])
    known, held_out = (Tokens.from_ids(tokenizer.encode(t)) for t in (text, unseen))
    runs = []
    for seed in SEEDS:
        pair = {name: start(name, tokenizer.vocab_size, steps, seed) for name in NORMS}
        stream = TextStream(known, batch=BATCH, length=LENGTH, seed=seed)
        for _ in range(steps):
            batch = next(stream)
            for run in pair.values():
                advance(run, batch)
        for name, run in pair.items():
            runs.append({"norm": name, "seed": seed} | finish(run, held_out))
            shown = {k: v for k, v in runs[-1].items() if not isinstance(v, list)}
            print(shown, flush=True)
    numbers = {
        "steps": steps,
        "parameters": sum(p.numel() for p in pair["rmsnorm"]["model"].parameters()),
        "width": WIDTH,
        "layers": LAYERS,
        "runs": runs,
        **summary(runs),
        "microseconds": timed(),
    }
    record("norms", numbers, drawing(runs, steps), RESULTS)


def start(norm: str, vocabulary: int, steps: int, seed: int) -> dict:
    """A model with this norm; but for the norms, equal seeds give equal weights."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=vocabulary,
        max_seq_len=LENGTH,
        d_model=WIDTH,
        n_layers=LAYERS,
        n_heads=4,
        norm=norm,
    )
    model = Decoder(config)
    learner = Learner(
        model,
        adamw(model, lr=3e-3),
        warmup_cosine(steps // 10, steps),
        watch_gradients=True,
    )
    return {"model": model, "learner": learner, "rows": [], "seconds": []}


def advance(run: dict, batch) -> None:
    """One step; its loss, each part's gradient, and its time."""
    before = time.process_time()
    run["rows"].append(run["learner"].update([batch], next_token))
    run["seconds"].append(time.process_time() - before)


def finish(run: dict, held_out: Tokens) -> dict:
    """What is left of a run."""
    rows, model = run["rows"], run["model"]
    parts = ["embedding", *(f"blocks.{i}" for i in range(LAYERS))]
    last = rows[-100:]
    return {
        "val_loss": perplexity(model, held_out, LENGTH)["val_loss"],
        "ms_per_step": 1000 * statistics.median(run["seconds"]),
        "mean_share": mean_share(model, held_out),
        "first_norms": means(rows[:10], parts),
        "last_norms": means(last, parts),
        "losses": [round(row["loss"], 4) for row in rows],
        "grad_norms": [round(row["grad_norm"], 4) for row in rows],
    }


def means(rows: list[dict], parts: list[str]) -> list[float]:
    """The mean norm of each part's gradient over these steps."""
    return [
        statistics.fmean(row[f"grad_norm.{part}"] for row in rows) for part in parts
    ]


@torch.no_grad()
def mean_share(model: Decoder, held_out: Tokens) -> float:
    """How much of what enters the norms is mean: mean² / mean square, on average."""
    shares = []

    def look(module, inputs) -> None:
        (x,) = inputs
        shares.append((x.mean(-1).square() / x.square().mean(-1)).mean().item())

    norms = [m for m in model.modules() if isinstance(m, (LayerNorm, RMSNorm))]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    model.eval()
    model(torch.tensor(held_out[:LENGTH].astype("int64"))[None])
    for hook in hooks:
        hook.remove()
    return statistics.fmean(shares)


def summary(runs: list[dict]) -> dict:
    """Means over the seeds, and differences of pairs with equal seeds."""
    of = {name: [r for r in runs if r["norm"] == name] for name in NORMS}
    pairs = list(zip(of["rmsnorm"], of["layernorm"], strict=True))
    differences = [rms["val_loss"] - layer["val_loss"] for rms, layer in pairs]
    result = {
        name: {
            key: statistics.fmean(run[key] for run in group)
            for key in ("val_loss", "ms_per_step", "mean_share")
        }
        | {
            key: [
                statistics.fmean(c) for c in zip(*(r[key] for r in group), strict=True)
            ]
            for key in ("first_norms", "last_norms")
        }
        for name, group in of.items()
    }
    spread = max(
        max(run["val_loss"] for run in group) - min(run["val_loss"] for run in group)
        for group in of.values()
    )
    return result | {
        "difference": statistics.fmean(differences),
        "differences": differences,
        "spread_of_seeds": spread,
    }


def timed(rows: int = 768, width: int = 768, rounds: int = 60) -> dict[str, float]:
    """Forward and backward of each norm, written out and fused: median microseconds."""
    x = torch.randn(rows, width, requires_grad=True)
    gain, bias = (torch.randn(width, requires_grad=True) for _ in range(2))
    fused = torch.nn.functional
    ways = {
        "rms_norm": lambda: rms_norm(x, gain),
        "layer_norm": lambda: layer_norm(x, gain, bias),
        "fused_rms_norm": lambda: fused.rms_norm(x, (width,), gain, 1e-5),
        "fused_layer_norm": lambda: fused.layer_norm(x, (width,), gain, bias, 1e-5),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            before = time.process_time()
            way().sum().backward()
            found[name].append(1e6 * (time.process_time() - before))
    return {name: statistics.median(times) for name, times in found.items()}


def drawing(runs: list[dict], steps: int) -> str:
    """The mean loss of both over the seeds, with the band from lowest to highest."""
    lines = []
    for name, shown in NORMS.items():
        losses = torch.tensor([r["losses"] for r in runs if r["norm"] == name])
        blocks = losses.unfold(1, 10, 10).mean(-1)  # (seeds, steps / 10)
        lines.append(
            Series(
                shown,
                list(range(10, 10 * blocks.shape[1] + 1, 10)),
                blocks.mean(0).tolist(),
                color=COLORS[name],
                dashed=name == "layernorm",
                low=blocks.min(0).values.tolist(),
                high=blocks.max(0).values.tolist(),
            )
        )
    return line_chart(
        lines,
        width=620,
        height=280,
        y_label="loss, nats per character",
        description=f"Over {steps} steps both losses fall along one curve.",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
