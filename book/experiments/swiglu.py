"""Three feed-forward parts of equal size, and one that is larger than it should be.

    python book/experiments/swiglu.py

takes two minutes of one core and writes book/results/swiglu.json and swiglu.svg, and
swiglu_gates beside them: which letters open which gates.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from folio.book.record import record
from folio.data import tales
from folio.data.text import TextStream, validation_windows
from folio.data.tokens import Tokens
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.text.char import CharTokenizer
from folio.training.learner import Learner
from folio.training.loop import train
from folio.viz.color import paint
from folio.viz.dots import Dots, dot_plot
from folio.viz.markup import tag
from folio.viz.svg import label

RESULTS = Path(__file__).resolve().parent.parent / "results"
SEEDS = (0, 1, 2)
LENGTH, BATCH, WIDTH = 64, 8, 72
ARMS = {
    "GELU": ({"mlp": "gelu_tanh"}, "validation"),
    "ReLU²": ({"mlp": "relu2"}, "rate"),
    "SwiGLU": ({"mlp": "swiglu"}, "train"),
    "SwiGLU, too wide": ({"mlp": "swiglu", "d_ff": 4 * WIDTH}, "other"),
}
SENTENCE = "Edith handed the big cart to Amina at the beach."
SHOWN = 12  # gates in the picture


def main(steps: int) -> None:
    """Train each part with each seed, compare, look at gates, record."""
    torch.set_num_threads(1)
    text = "\n".join(tales.documents(0, count=1_500))
    held_out = "\n".join(tales.documents(0, split="validation", count=60))
    tokenizer = CharTokenizer.train([text, held_out, SENTENCE])
    tokens = Tokens.from_ids(tokenizer.encode(text))
    judged = Tokens.from_ids(tokenizer.encode(held_out))
    losses: dict[str, list[float]] = {name: [] for name in ARMS}
    sizes, looked_at = {}, None
    for seed in SEEDS:
        for name, (parts, _) in ARMS.items():
            model = trained(tokenizer.vocab_size, parts, tokens, seed, steps)
            losses[name].append(loss_on(model, judged))
            sizes[name] = sum(p.numel() for p in model.blocks[0].mlp.parameters())
            print(seed, name, sizes[name], losses[name][-1], flush=True)
            if name == "SwiGLU" and seed == 0:
                looked_at = model
    facts = {
        "steps": steps,
        "seeds": len(SEEDS),
        "characters": len(text),
        "rows": [row(name, losses, sizes) for name in ARMS],
    }
    record("swiglu", facts, drawing(losses), RESULTS)
    ids = torch.tensor([tokenizer.encode(held_out[:4_000])])
    gates, values = gate_and_value(looked_at, ids[:, : 40 * 64].view(40, 64))
    gates, values = gates.flatten(0, 1), values.flatten(0, 1)
    sentence = torch.tensor([tokenizer.encode(SENTENCE)])
    shown = gate_and_value(looked_at, sentence)[0][0]
    chosen = shown.std(0).argsort(descending=True)[:SHOWN]
    correlation = np.corrcoef(np.stack([gates.flatten(), values.flatten()]))[0, 1]
    about = {
        "sentence": SENTENCE,
        "layer": 1,
        "gates": len(shown[0]),
        "closed": round(float((gates < 0).float().mean()), 4),
        "nearly_shut": round(float((F.silu(gates).abs() < 0.1).float().mean()), 4),
        "correlation": round(float(correlation), 4),
    }
    record("swiglu_gates", about, gate_map(F.silu(shown[:, chosen]), chosen), RESULTS)


def trained(vocabulary: int, parts: dict, tokens: Tokens, seed: int, steps: int):
    """A model after `steps` steps; of equal seeds, all see the same batches."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocabulary,
        d_model=WIDTH,
        n_layers=2,
        n_heads=4,
        max_seq_len=LENGTH,
        **parts,
    )
    model = Decoder(config)
    learner = Learner(model, adamw(model, 3e-3), warmup_cosine(steps // 20, steps))
    stream = TextStream(tokens, batch=BATCH, length=LENGTH, seed=seed)
    train(learner, stream, next_token, steps=steps)
    return model.eval()


@torch.no_grad()
def loss_on(model: Decoder, tokens: Tokens) -> float:
    """Nats per character of the held-out text."""
    total = count = 0.0
    for batch in validation_windows(tokens, LENGTH, 64):
        total += float(next_token(model, batch)[0])
        count += batch.denominator
    return total / count


@torch.no_grad()
def gate_and_value(model: Decoder, ids: torch.Tensor):
    """What the last layer's gate and up give, before anything bends: (B, T, F)."""
    seen = []
    hook = model.blocks[-1].mlp.register_forward_pre_hook(lambda _, x: seen.append(x))
    model(ids)
    hook.remove()
    mlp, (x,) = model.blocks[-1].mlp, seen[0]
    return mlp.gate(x), mlp.up(x)


def row(name: str, losses: dict[str, list[float]], sizes: dict[str, int]) -> dict:
    """The losses of one part, and how it stands to GELU with the same seeds."""
    runs = np.array(losses[name])
    against = runs - np.array(losses["GELU"])
    return {
        "name": name,
        "parameters": sizes[name],
        "losses": [round(float(loss), 4) for loss in runs],
        "mean": round(float(runs.mean()), 4),
        "spread": round(float(runs.std(ddof=1)), 4),
        "against_gelu": round(float(against.mean()), 4),
        "against_low": round(float(against.min()), 4),
        "against_high": round(float(against.max()), 4),
    }


def drawing(losses: dict[str, list[float]]) -> str:
    """A dot for each seed; the bar is the standard error of the mean."""
    rows = []
    for name, (_, color) in ARMS.items():
        runs = np.array(losses[name])
        error = float(runs.std(ddof=1) / np.sqrt(len(runs)))
        rows.append(Dots(name, losses[name], float(runs.mean()), error, color))
    return dot_plot(rows, "loss, nats per character", width=620)


def gate_map(opened: torch.Tensor, chosen: torch.Tensor) -> str:
    """Rows are gates, columns are letters; blue lets through, orange turns over."""
    wide, high, left, top = 12.0, 16.0, 58.0, 24.0
    parts = [
        label(
            "␣" if letter == " " else letter,
            left + wide * (i + 0.5),
            16,
            "middle",
            color="ink",
        )
        for i, letter in enumerate(SENTENCE)
    ]
    for line, unit in enumerate(chosen.tolist()):
        y = top + high * line
        parts.append(label(f"gate {unit}", left - 6, y + 12, "end", font_size=11))
        most = float(opened[:, line].abs().max())
        for i, value in enumerate(opened[:, line].tolist()):
            parts.append(
                tag(
                    "rect",
                    x=left + wide * i,
                    y=y,
                    width=wide,
                    height=high,
                    fill=paint("train" if value > 0 else "validation"),
                    fill_opacity=f"{abs(value) / most:.2f}",
                    stroke=paint("grid"),
                )
            )
    size = f"0 0 {left + wide * len(SENTENCE) + 8:g} {top + high * len(chosen) + 8:g}"
    return tag("svg", *parts, viewBox=size, font_size=12)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=700)
    main(parser.parse_args().steps)
