"""A small GPT learns tales: what it writes, and how good that is, against steps.

    python book/experiments/quality_by_steps.py

takes some minutes of one core and writes book/results/quality_by_steps.json and .svg.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from pathlib import Path

import torch
from checker import faults, spoiled

from folio.book.record import record
from folio.data.tales import story
from folio.data.tales.splits import generator
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.evals.respond import answer_all
from folio.infer.engine import Engine
from folio.infer.sampling import Sampling
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.muon import muon
from folio.optim.schedule import warmup_linear
from folio.text.bpe import BPETokenizer
from folio.text.tokenizer import Tokenizer
from folio.training.learner import Learner
from folio.viz.svg import Series, line_chart

RESULTS = Path(__file__).resolve().parent.parent / "results"
LENGTH, BATCH, SAMPLES, PIECE = 96, 24, 80, 10
VOCABULARY = 512
LOOKS = (1, 20, 40, 80, 150, 200, 300, 400, 500, 600)


def main(steps: int) -> None:
    """Train, and at each look write stories and judge them."""
    begin = time.perf_counter()
    known, unseen = stories("train", 6000), stories("validation", 200)
    tokenizer = BPETokenizer.train(["\n".join(known[:1000])], VOCABULARY)
    tokens, held_out = (ids(texts, tokenizer) for texts in (known, unseen))
    words = {word for text in known for word in text.split()}
    pieces = pieces_of(known)
    torch.manual_seed(0)
    model = Decoder(
        ModelConfig(
            vocab_size=tokenizer.vocab_size,
            max_seq_len=LENGTH,
            d_model=96,
            n_layers=3,
            n_heads=4,
            mlp="relu2",
            qk_norm=True,
            init="fan_in",
            embedding_std=0.7,
            tie_embeddings=False,
        )
    )
    learner = Learner(
        model, muon(model, 0.02, momentum=0.9, rounds=3), warmup_linear(5, steps)
    )
    stream = TextStream(tokens, batch=BATCH, length=LENGTH)
    rows, losses = [], []
    for step in range(1, steps + 1):
        losses.append(learner.update([next(stream)], next_token)["loss"])
        if step in LOOKS or step == steps:
            written = write(model, tokenizer)
            judged = judge(written, words, pieces)
            measured = perplexity(model, held_out, LENGTH)
            rows.append(
                {"step": step, "loss": statistics.fmean(losses[-10:])}
                | {"val_loss": measured["val_loss"]}
                | {"val_perplexity": measured["val_perplexity"]}
                | judged
                | {"text": written[0]}
            )
            print(rows[-1], flush=True)
    numbers = {
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "stories": len(known),
        "held_out": len(unseen),
        "vocabulary": tokenizer.vocab_size,
        "samples": SAMPLES,
        "piece": PIECE,
        "seconds": round(time.perf_counter() - begin, 1),
        "checker": about_checker(unseen),
        "real": judge(unseen[:SAMPLES], words, pieces),
        "rows": rows,
    }
    record("quality_by_steps", numbers, drawing(rows), RESULTS)


def stories(split: str, count: int) -> list[str]:
    """Short tales of a split."""
    made = (generator("quality", split, index) for index in range(count))
    return [story(rng, split, "small").text for rng in made]


def ids(texts: list[str], tokenizer: Tokenizer) -> Tokens:
    return Tokens.from_ids(tokenizer.encode("\n" + "\n".join(texts) + "\n"))


def write(model: Decoder, tokenizer: Tokenizer) -> list[str]:
    """Stories from nothing but the end of another, as likely as the model has them."""
    engine = Engine(model, tokenizer, max_batch=SAMPLES)
    asked = [tokenizer.encode(".\n")]  # one token, with which every tale ends
    (answers,) = answer_all(engine, asked, LENGTH, Sampling(0.8), SAMPLES, seed=0)
    return [answer.text.split("\n")[0] for answer in answers]


def judge(texts: list[str], words: set[str], pieces: set[str]) -> dict[str, float]:
    """Shares: of words that exist, of stories that hold, of pieces seen in training.

    A story holds if it is finished, of real words, and the checker finds no fault.
    """
    written = [word for text in texts for word in text.split()]
    mine = [piece for text in texts for piece in cut(text)]
    whole = [t for t in texts if t.endswith(".") and words.issuperset(t.split())]
    return {
        "real_words": sum(word in words for word in written) / max(1, len(written)),
        "hold": sum(not faults(text) for text in whole) / len(texts),
        "known_pieces": sum(piece in pieces for piece in mine) / max(1, len(mine)),
    }


def cut(text: str) -> list[str]:
    """All runs of PIECE words."""
    words = re.findall(r"\S+", text)
    return [" ".join(words[i : i + PIECE]) for i in range(len(words) - PIECE + 1)]


def pieces_of(texts: list[str]) -> set[str]:
    return {piece for text in texts for piece in cut(text)}


def about_checker(texts: list[str]) -> dict[str, float]:
    """What it says of true stories, and of the same with one word changed."""
    chance = random.Random(0)
    wrong = [spoiled(text, chance) for text in texts]
    return {
        "true_pass": sum(not faults(text) for text in texts) / len(texts),
        "spoiled_caught": sum(bool(faults(text)) for text in wrong) / len(wrong),
    }


def drawing(rows: list[dict]) -> str:
    """Samples against steps: two measures of what was written."""
    steps = [row["step"] for row in rows]
    lines = [
        Series(name, steps, [row[key] for row in rows], color=color, dots=True)
        for name, key, color in (
            ("real words", "real_words", "train"),
            ("stories hold", "hold", "gradient"),
            ("known pieces", "known_pieces", "validation"),
        )
    ]
    description = "Real words come first and fast; stories that hold come late."
    return line_chart(
        lines, width=620, height=300, y_label="share", description=description
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=700)
    main(parser.parse_args().steps)
