"""A tiny GPT learns twelve tales by heart; another learns from two thousand.

    python book/experiments/overfit.py

takes a minute of one core and writes book/results/overfit.json and .svg.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from quality_by_steps import ids, pieces_of, stories

from folio.book.record import record
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.infer.generate import generate_text
from folio.infer.sampling import Sampling
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.text.char import CharTokenizer
from folio.training.learner import Learner
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
LENGTH, BATCH, FEW, MANY, EVERY = 64, 8, 12, 2000, 20
LOOKS = (1, 100, 200, 400, 800)


def main(steps: int) -> None:
    """Train on few and on many; measure both on the same held-out tales."""
    begin = time.perf_counter()
    many, unseen = stories("train", MANY), stories("validation", 40)
    few = many[:FEW]
    tokenizer = CharTokenizer.train(["\n".join(many + unseen)])
    known = {
        "few": ids(few, tokenizer),
        "many": ids(many, tokenizer),
        "unseen": ids(unseen, tokenizer),
    }
    rows, samples = run("few", known, tokenizer, few, steps)
    others, _ = run("many", known, tokenizer, few, steps)
    best = min(rows, key=lambda row: row["val_loss"])
    numbers = {
        "steps": steps,
        "few": FEW,
        "many": MANY,
        "characters": len(known["few"]),
        "held_out_characters": len(known["unseen"]),
        "epochs": steps * BATCH * LENGTH / len(known["few"]),
        "seconds": round(time.perf_counter() - begin, 1),
        "best": best,
        "last": rows[-1],
        "last_of_many": others[-1],
        "samples": samples,
        "rows": rows,
        "rows_of_many": others,
    }
    record("overfit", numbers, drawing(rows, others), RESULTS)


def run(
    name: str,
    known: dict[str, Tokens],
    tokenizer: CharTokenizer,
    few: list[str],
    steps: int,
) -> tuple[list[dict], list[dict]]:
    """Losses on what is learned and on what isn't, and samples on the way."""
    torch.manual_seed(0)
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        max_seq_len=LENGTH,
        d_model=64,
        n_layers=2,
        n_heads=4,
        init="fan_in",
    )
    model = Decoder(shape)
    learner = Learner(
        model, adamw(model, lr=5e-3, weight_decay=0.0), warmup_cosine(20, steps)
    )
    stream = TextStream(known[name], batch=BATCH, length=LENGTH, order="random")
    rows, samples, pieces = [], [], pieces_of(few)
    for step in range(1, steps + 1):
        learner.update([next(stream)], next_token)
        if step == 1 or step % EVERY == 0:
            losses = {
                f"{part}_loss": perplexity(model, known[of], LENGTH)["val_loss"]
                for part, of in (("train", "few"), ("val", "unseen"))
            }
            rows.append({"step": step} | losses)
            print(name, rows[-1], flush=True)
        if name == "few" and step in LOOKS:
            how = {"sampling": Sampling(0.5), "seed": 1}
            text = "".join(generate_text(model, tokenizer, "\n", 160, **how)).strip()
            mine = pieces_of([text.rsplit(" ", 1)[0]])
            copied = len(mine & pieces) / max(1, len(mine))
            samples.append({"step": step, "copied": copied, "text": text})
            print(samples[-1], flush=True)
    return rows, samples


def drawing(rows: list[dict], others: list[dict]) -> str:
    """Three losses against the step, from the second look on."""
    rows, others = rows[1:], others[1:]
    steps = [row["step"] for row in rows]
    lines = [
        Series("learned by heart", steps, [r["train_loss"] for r in rows]),
        Series("held out", steps, [r["val_loss"] for r in rows], color="validation"),
        Series(
            "held out, of many",
            steps,
            [r["val_loss"] for r in others],
            color="validation",
            dashed=True,
        ),
    ]
    description = "The loss of what is learned falls to almost nothing; held-out rises."
    return line_chart(
        lines,
        width=620,
        height=260,
        y_label="loss, nats per character",
        description=description,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    main(parser.parse_args().steps)
