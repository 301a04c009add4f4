"""Run folders as training writes them, made up but shaped like real ones."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from folio.viz.attention import pack

TALE = (
    "Mara had lost her red lamp. She asked Tobin, who was mending a net by the well. "
    "“I gave it to Ines,” he said, “and she took it to the mill.”"
)
WRITTEN = [
    " wq;e tte aohn rinTd  s eoa\n hhe lsa,u .no",
    " the the was a the and the lamp the said and was to the",
    " Tobin had the lamp of the well. She said the mill, and the was red.",
    " a girl called Ines lived by the mill. She wanted the red lamp; Tobin said no.",
    " Ines walked to the mill, because Tobin had told her that the red lamp was there. "
    "“Take it,” said the miller, and she carried it home before the rain came.",
]


def recipe_toml(seed: int, layers: int, rate: float, positions: str) -> str:
    return f"""seed = {seed}

[data]
name = "tales"
bytes = 4_000_000
val_fraction = 0.05

[model]
d_model = 128
n_layers = {layers}
n_heads = 4
max_seq_len = 128
positions = "{positions}"
dropout = 0.0

[optim]
lr = {rate}
betas = [0.9, 0.95]
weight_decay = 0.1

[train]
steps = 2000
batch = 16
accumulate = 1
"""


def metric_rows(seed: int, steps: int, floor: float, every: int = 5) -> list[dict]:
    """A falling loss with noise, evaluated now and then."""
    noise, rows = np.random.default_rng(seed), []

    def curve(step: int) -> float:
        return floor + (6.93 - floor) / (1 + step / 60) ** 0.9

    for step in range(0, steps + 1, every):
        clock = {"step": step, "seconds": step * 0.09 + 1, "tokens": step * 2048}
        if step:
            heat = (
                step / 100 if step < 100 else (1 + math.cos(math.pi * step / steps)) / 2
            )
            rows.append(
                clock
                | {
                    "loss": float(curve(step) + noise.normal(0, 0.07) - 0.05),
                    "lr": 6e-4 * heat,
                    "grad_norm": float(
                        abs(noise.normal(0.6, 0.1)) + 8 / (1 + step / 8)
                    ),
                    "tokens_per_second": float(22_000 + noise.normal(0, 600)),
                }
            )
        if step % (steps // 10) == 0:
            loss = float(curve(step) + noise.normal(0, 0.01))
            rows.append(
                clock
                | {
                    "val_loss": loss,
                    "val_perplexity": math.exp(loss),
                    "val_bits_per_byte": loss / math.log(2) / 3.1,
                    "copy_name": 1 / (1 + math.exp(6 - 10 * step / steps)),
                }
            )
    return rows


def attention_record(
    tokens: list[str], layers=4, heads=4, steps=(0, 50, 200, 800, 2000)
):
    """Heads that begin even and grow habits: previous token, first token, repeats."""
    length = len(tokens)
    query, key = np.mgrid[:length, :length]
    entries = []
    for step in steps:
        sharp, weights = step / (step + 250), np.zeros((layers, heads, length, length))
        for layer in range(layers):
            for head in range(heads):
                far = query - key - head
                score = -sharp * (0.3 + layer) * abs(far) ** 0.8
                score = score + sharp * 3 * (key == 0) * ((layer + head) % 3 == 0)
                score = score + 0.4 * np.sin(1.7 * key + layer * 5 + head * 3 + query)
                score = np.where(key <= query, score, -np.inf)
                share = np.exp(score - score.max(axis=-1, keepdims=True))
                weights[layer, head] = share / share.sum(axis=-1, keepdims=True)
        entries.append(pack(step, weights))
    return {"text": "".join(tokens), "tokens": tokens, "steps": entries}


def pieces(text: str) -> list[str]:
    """Cut a text into things the size of tokens."""
    found: list[str] = []
    for word in text.split(" "):
        word = (" " if found else "") + word
        found += [word[:5], word[5:]] if len(word) > 7 else [word]
    return found


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_fake_run(
    path: Path,
    *,
    seed: int = 1,
    steps: int = 2000,
    layers: int = 4,
    rate: float = 6e-4,
    positions: str = "rotary",
    floor: float = 1.25,
    every: int = 5,
) -> Path:
    """A complete run folder; `floor` is where its loss is heading."""
    path.mkdir(parents=True)
    recipe = recipe_toml(seed, layers, rate, positions)
    (path / "recipe.toml").write_text(recipe, encoding="utf-8")
    rows = metric_rows(seed, steps, floor, every)
    write_lines(path / "metrics.jsonl", rows)
    best = min((row for row in rows if "val_loss" in row), key=lambda r: r["val_loss"])
    write_json(path / "run.json", run_info(seed, steps, best))
    write_lines(path / "samples.jsonl", sample_rows(steps))
    tokens = pieces(TALE)
    write_json(path / "figures/attention.json", attention_record(tokens[:32], layers))
    write_json(
        path / "figures/tokens.json", {"text": TALE, "tokens": token_rows(tokens)}
    )
    baseline = [["Kneser-Ney 5-gram", 0.622, None], ["this run", 0.499, 0.91]]
    columns = ["model", "bits per byte", "names copied"]
    title = "Against a model that counts"
    write_json(
        path / "results.json", {"title": title, "columns": columns, "rows": baseline}
    )
    return path


def sample_rows(steps: int) -> list[dict]:
    rows = []
    for index, text in enumerate(WRITTEN):
        step = steps * index**2 // 16
        for prompt in ("Once upon a time", "Mara asked Tobin", "In the morning"):
            row = {"step": step, "prompt": prompt, "text": text, "temperature": 0.8}
            rows.append(row)
    return rows


def token_rows(tokens: list[str]) -> list[dict]:
    rows = [
        {
            "id": 256 + sum(map(ord, text)) % 768,
            "text": text,
            "bytes": len(text.encode()),
            "special": False,
        }
        for text in tokens
    ]
    return [*rows, {"id": 1023, "text": "<|endoftext|>", "bytes": 0, "special": True}]


def run_info(seed: int, steps: int, best: dict) -> dict:
    return {
        "folio": "0.1.0",
        "torch": "2.6.0",
        "python": "3.11.9",
        "started": "2025-03-01T10:00:00",
        "finished": "2025-03-01T10:03:01",
        "host": "kitchen",
        "machine": "an 8-core laptop CPU (2 threads)",
        "seed": seed,
        "command": "folio pretrain recipes/tiny/tales.toml --train.steps 2000",
        "commit": "4f2a9c1",
        "parent": None,
        "status": "finished",
        "step": steps,
        "parameters": {"total": 924_160, "embedding": 131_072, "blocks": 793_088},
        "flops_per_token": 6_100_000,
        "tokenizer": {"kind": "bpe", "vocab_size": 1024, "fingerprint": "9f86d081"},
        "data": {
            "name": "tales",
            "train_tokens": 1_250_000,
            "val_tokens": 64_000,
            "train_bytes": 3_800_000,
            "val_bytes": 200_000,
            "fingerprint": "60303ae2",
        },
        "results": {
            "val_loss": best["val_loss"],
            "val_perplexity": best["val_perplexity"],
            "val_bits_per_byte": best["val_bits_per_byte"],
            "best_step": best["step"],
            "seconds": steps * 0.09 + 1,
            "tokens": steps * 2048,
        },
        "notes": ["bf16 was asked for and this CPU has no fast one: trained in fp32"],
    }


@pytest.fixture
def make_run(tmp_path):
    """make_run("base", seed=1) writes a fake run below the test's own folder."""
    return lambda name="base", **changes: write_fake_run(tmp_path / name, **changes)
