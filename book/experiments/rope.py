"""Four ways to tell a model where tokens stand, within and past the trained length.

    python book/experiments/rope.py

takes two minutes of one core and writes book/results/rope.json and rope.svg, and
rope_scaling beside them: what slowing the clocks down does to a trained model.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from folio.book.record import record
from folio.data import tales
from folio.data.text import TextStream, next_token_batch
from folio.data.tokens import Tokens
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.options import RopeScaling
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.text.char import CharTokenizer
from folio.training.learner import Learner
from folio.training.loop import train
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
KINDS = ("rotary", "learned", "sinusoidal", "none")
COLORS = dict(zip(KINDS, ("train", "validation", "rate", "gradient"), strict=True))
SEEDS = (0, 1, 2)
TRAINED, TESTED, BIN = 128, 512, 32  # tokens
FACTOR = TESTED / TRAINED
SCALINGS = {
    "as it is": None,
    "linear": RopeScaling("linear", FACTOR),
    "NTK": RopeScaling("ntk", FACTOR),
    "YaRN": RopeScaling("yarn", FACTOR, TRAINED),
    "Llama 3": RopeScaling("llama3", FACTOR, TRAINED),
}
PARTS = {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": TESTED}


def main(steps: int) -> None:
    """Train each kind with each seed, read longer texts with all, record."""
    torch.set_num_threads(1)
    text = "\n".join(tales.documents(0, count=1_500))
    held_out = "\n".join(tales.documents(0, split="validation", count=150))
    tokenizer = CharTokenizer.train([text, held_out])
    tokens = Tokens.from_ids(tokenizer.encode(text))
    long_rows = windows(tokenizer.encode(held_out), 40)
    losses: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    scaled: dict[str, list[np.ndarray]] = {name: [] for name in SCALINGS}
    for seed in SEEDS:
        for kind in KINDS:
            config = ModelConfig(tokenizer.vocab_size, positions=kind, **PARTS)
            model = trained(config, tokens, seed, steps)
            losses[kind].append(by_place(model, long_rows))
            print(seed, kind, within_and_past(losses[kind][-1]), flush=True)
            if kind == "rotary":
                for name, scaling in SCALINGS.items():
                    longer = Decoder(replace(config, rope_scaling=scaling))
                    longer.load_state_dict(model.state_dict())
                    scaled[name].append(by_place(longer, long_rows))
    facts = {
        "steps": steps,
        "seeds": len(SEEDS),
        "trained": TRAINED,
        "tested": TESTED,
        "bin": BIN,
        "characters": len(text),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    record("rope", facts | {"rows": rows(losses)}, drawing(losses), RESULTS)
    lines = [series(n, scaled[n], f"run-{i}") for i, n in enumerate(SCALINGS)]
    record("rope_scaling", facts | {"rows": rows(scaled)}, chart(lines), RESULTS)


def trained(config: ModelConfig, tokens: Tokens, seed: int, steps: int) -> Decoder:
    """A model after `steps` steps on windows of the trained length."""
    torch.manual_seed(seed)
    model = Decoder(config)
    schedule = warmup_cosine(steps // 20, steps)
    learner = Learner(model, adamw(model, 4e-3), schedule)
    stream = TextStream(tokens, batch=4, length=TRAINED, seed=seed)
    train(learner, stream, next_token, steps=steps)
    return model.eval()


def windows(ids: list[int], count: int) -> torch.Tensor:
    """`count` long windows, spread over the held-out text: (count, TESTED + 1)."""
    starts = np.linspace(0, len(ids) - TESTED - 1, count).astype(int)
    return torch.tensor([ids[start : start + TESTED + 1] for start in starts])


@torch.no_grad()
def by_place(model: Decoder, long_rows: torch.Tensor) -> np.ndarray:
    """The mean loss in each bin of places, in nats per character: (TESTED / BIN,)."""
    batch = next_token_batch(long_rows)
    logprobs = model.eval()(batch.inputs, targets=batch.targets).logprobs
    return -logprobs.unflatten(1, (-1, BIN)).mean((0, 2)).numpy()


def within_and_past(losses: np.ndarray) -> tuple[float, float]:
    """The mean loss within the trained length, and in the last quarter of the text."""
    split = TRAINED // BIN
    return float(losses[:split].mean()), float(losses[-split:].mean())


def rows(losses: dict[str, list[np.ndarray]]) -> list[dict]:
    """Means over the seeds, and how far apart the seeds are."""
    found = []
    for name, runs in losses.items():
        within, past = np.array([within_and_past(run) for run in runs]).T
        found.append(
            {
                "name": name,
                "within": round(float(within.mean()), 4),
                "within_low": round(float(within.min()), 4),
                "within_high": round(float(within.max()), 4),
                "past": round(float(past.mean()), 4),
                "past_low": round(float(past.min()), 4),
                "past_high": round(float(past.max()), 4),
                "by_place": [[round(float(x), 4) for x in run] for run in runs],
            }
        )
    return found


def series(name: str, runs: list[np.ndarray], color: str) -> Series:
    """The mean of the seeds against the place, with a band from least to most."""
    places = np.arange(BIN / 2, TESTED, BIN)
    runs = np.array(runs)
    low, high = runs.min(0), runs.max(0)
    return Series(name, places, runs.mean(0), color=color, low=low, high=high)


def drawing(losses: dict[str, list[np.ndarray]]) -> str:
    return chart([series(kind, losses[kind], COLORS[kind]) for kind in KINDS])


def chart(lines: list[Series]) -> str:
    """Loss against place, with a line where the trained length ends."""
    ends = [value for line in lines for value in (*line.low, *line.high)]
    border = Series(
        "trained length",
        [TRAINED, TRAINED],
        [min(ends), max(ends)],
        color="other",
        dashed=True,
        raw=True,
    )
    return line_chart(
        [*lines, border],
        width=640,
        height=330,
        x_label="place in the text",
        y_label="loss, nats per character",
        description="Loss against place in the text.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=700)
    main(parser.parse_args().steps)
