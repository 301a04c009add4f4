"""The race to nanoGPT's loss on Shakespeare's characters, on the processor at hand.

nanoGPT trains its recipe for a laptop by its own command (--peer is a checkout); ours
is `folio pretrain recipes/tiny/speedrun.toml`, a plain GPT of the same width. Both are
timed from process start to the end, reading the text and importing PyTorch included,
and judged on the whole held-out part. Five seeds of ours; the peer goes once before and
once after them.

Then what each part is worth: the recipe without it, over three seeds, the same tokens.

The value is how many times sooner ours is done, by the medians. It counts only if the
median loss is no higher than nanoGPT's: else it is 0. --quick: one seed, a tenth of the
peer's steps, scaled up.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from folio.config import build, merge, read_toml
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.objectives.next_token import next_token
from folio.stages.assemble import make_learner
from folio.stages.recipe import PretrainRecipe
from folio.text.char import CharTokenizer
from folio.training.loop import train
from nanogpt import prepare_peer, train_ours, train_peer
from record import ROOT, median, parse_arguments, record

GOAL = 12.0
RECIPE, OPEN = "tiny/speedrun.toml", "tiny/speedrun_open.toml"
PEER_STEPS = 2000
ADAMW = {"kind": "adamw", "lr": 4e-3, "beta1": 0.9}  # the rate of shakespeare.toml
WITHOUT: dict[str, dict[str, Any]] = {
    "everything": {},
    "Muon": {"optim": ADAMW},
    "five rounds of its polynomials": {"optim": {"rounds": 5}},
    "bf16 weights": {"train": {"precision": "fp32"}},
    "QK-norm": {"model": {"qk_norm": False}},
    "GELU (ReLU² instead)": {"model": {"mlp": "relu2"}},
    "GPT-2's start (blocks that begin as the identity instead)": {
        "model": {"init": "fan_in"}
    },
    "large embeddings": {"model": {"embedding_std": 0.02}},
    "short wavelengths": {"model": {"rope_theta": 10_000.0}},
    "an untied head": {"model": {"tie_embeddings": True}},
    "small batches": {"train": {"batch": 32, "steps": 100}},
}


def race(peer: Path, text: Path, seeds: Sequence[int], quick: bool) -> list[dict]:
    """One row per run: wall seconds from process start, loss of the held-out part."""
    rows: list[dict[str, Any]] = []
    share = 10 if quick else 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy = prepare_peer(peer, text, folder)

        def theirs() -> None:
            seconds, loss = train_peer(copy, PEER_STEPS // share)
            row = {"name": "nanogpt", "seconds": share * seconds}
            rows.append(row | {"whole_val_loss": None if quick else loss})
            print(rows[-1], flush=True)

        theirs()
        for seed in seeds:
            found = train_ours(RECIPE, text, folder / "ours", None, seed=seed)
            rows.append({"name": "folio", "seed": seed} | found)
            print(rows[-1], flush=True)
            shutil.rmtree(folder / "ours")
        if not quick:
            theirs()
            found = train_ours(OPEN, text, folder / "open", None)
            rows.append({"name": "folio, open"} | found)
            print(rows[-1], flush=True)
    return rows


class Text:
    """The characters' ids, as the recipe's run would make them."""

    def __init__(self, path: Path):
        text = path.read_text(encoding="utf-8")
        tokenizer = CharTokenizer.train([text])
        ids = np.array(tokenizer.encode(text), dtype=np.uint16)
        cut, self.vocab_size = int(0.9 * len(ids)), tokenizer.vocab_size
        self.train, self.held_out = (
            Tokens.from_ids(part, vocab_size=self.vocab_size)
            for part in (ids[:cut], ids[cut:])
        )


def loss_of(text: Text, change: dict[str, Any], seed: int) -> tuple[float, float]:
    """(held-out loss, processor seconds of the steps) of the recipe so changed."""
    values = read_toml(ROOT / "recipes" / RECIPE)
    recipe = build(PretrainRecipe, merge(merge(values, change), {"seed": seed}))
    torch.manual_seed(seed)
    learner = make_learner(recipe, text.vocab_size)
    sizes = {"batch": recipe.train.batch, "length": recipe.length}
    stream = TextStream(text.train, **sizes, seed=seed, order=recipe.data.order)
    start = time.process_time()
    train(learner, stream, next_token, steps=recipe.train.steps)
    seconds = time.process_time() - start
    found = perplexity(learner.model, text.held_out, recipe.length, 64)
    return found["val_loss"], seconds


def parts(text: Text, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What the recipe loses, and what a step costs, without each of its parts."""
    rows = []
    for name, change in WITHOUT.items():
        found = [loss_of(text, change, seed) for seed in seeds]
        losses, seconds = zip(*found, strict=True)
        row = {
            "without": "nothing" if name == "everything" else name,
            "losses": losses,
            "loss": fmean(losses),
            "loss_std": stdev(losses) if len(losses) > 1 else None,
            "cpu_s": median(seconds),
        }
        row["loss_added"] = row["loss"] - (rows[0]["loss"] if rows else row["loss"])
        rows.append(row)
        print(row, flush=True)
    return rows


def value_of(rows: list[dict[str, Any]], quick: bool) -> float:
    def of(name: str, key: str) -> float:
        return median([row[key] for row in rows if row["name"] == name])

    if not quick and of("folio", "whole_val_loss") > of("nanogpt", "whole_val_loss"):
        print("the median loss is higher than nanoGPT's: the time doesn't count")
        return 0.0
    return of("nanogpt", "seconds") / of("folio", "seconds")


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--peer", {"required": True, "type": Path, "help": "a checkout of nanoGPT"}),
        ("--text", {"required": True, "type": Path, "help": "tinyshakespeare.txt"}),
        ("--only", {"choices": ("race", "parts")}),
    )
    path, quick = arguments.text.resolve(), arguments.quick
    rows: list[dict[str, Any]] = []
    if arguments.only == "parts":
        parts(Text(path), (1, 2, 3))
        sys.exit()
    seeds = (1,) if quick else (1, 2, 3, 4, 5)
    rows += race(arguments.peer.resolve(), path, seeds, quick)
    value = value_of(rows, quick)
    if not quick and arguments.only is None:
        rows += parts(Text(path), (1, 2, 3))
    record("speedrun", value, GOAL, rows)


if __name__ == "__main__":
    main()
