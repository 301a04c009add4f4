"""Speculative decoding beside plain decoding: the same text, read in fewer steps.

A target and a draft a tenth of its size learn the tales, the same tokens for both; then
each held-out story is begun and written on, greedily and by sampling, without a draft,
with the draft model, and with look-up in the text so far. Greedy texts are compared
token for token. The value is the speed with the draft model against without, sampled:
the median over rounds of turn and turn about.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from folio.config import build, merge
from folio.data.shards import open_shards
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY, Sampling
from folio.infer.speculative import (
    Draft,
    DraftModel,
    LookUp,
    Tally,
    generate_speculative,
)
from folio.model.count import count_parameters
from folio.model.decoder import Decoder
from folio.stages.parent import load_decoder
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.text.tokenizer import Tokenizer
from record import interleave, median, parse_arguments, record

GOAL = 1.0  # no slower
RECIPE = {
    "data": {"megabytes": 6.0},
    "model": {"max_seq_len": 256, "d_model": 384, "n_layers": 6, "n_heads": 6},
    "optim": {"lr": 2e-3, "schedule": "linear", "floor": 0.0, "warmup": 40},
    "train": {"steps": 800, "batch": 8, "eval_every": 0, "save_every": 0},
    "sample": {"every": 0},
}
SMALLER = {"model": {"d_model": 128, "n_layers": 2, "n_heads": 4}}
QUICK = {
    "data": {"megabytes": 0.5},
    "tokenizer": {"vocab_size": 512},
    "model": {"max_seq_len": 128, "d_model": 192, "n_layers": 4, "n_heads": 4},
    "train": {"steps": 60},
}
AHEAD, PROMPT = 4, 32
SAMPLINGS = {"greedy": GREEDY, "sampled": Sampling(0.8)}


def main() -> None:
    arguments = parse_arguments(__doc__)
    quick = arguments.quick
    recipe = merge(RECIPE, QUICK) if quick else RECIPE
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        target, tokenizer = learn(recipe, place / "target")
        shared = {"tokenizer": {"path": str(place / "target")}}
        small = merge(merge(recipe, SMALLER), shared)
        draft, _ = learn(small, place / "draft")
        held_out = open_shards(place / "target" / "shards", "validation", tokenizer)
        count, new = (2, 48) if quick else (6, 200)
        texts = [held_out[i * 500 : i * 500 + PROMPT].tolist() for i in range(count)]
    rows, ratio = [], 1.0
    for name, sampling in SAMPLINGS.items():
        found = measure(target, draft, texts, new, sampling, rounds=3 if quick else 5)
        sizes = {
            n: count_parameters(m.config)["total"]
            for n, m in (("target_parameters", target), ("draft_parameters", draft))
        }
        rows += [{"sampling": name, **row, **sizes} for row in found]
        ratio = found[1]["speedup"]
    record("speculative", ratio, GOAL, rows)


def learn(values: dict[str, Any], folder: Path) -> tuple[Decoder, Tokenizer]:
    """Train one model on tales."""
    recipe = build(PretrainRecipe, values)
    run = pretrain(recipe, folder, say=lambda text: print(text, file=sys.stderr))
    return load_decoder(run.folder), Tokenizer.load(run.model)


def measure(
    target: Decoder,
    draft: Decoder,
    texts: list[list[int]],
    new: int,
    sampling: Sampling,
    rounds: int,
) -> list[dict[str, Any]]:
    """One row per way of decoding: plain, with the draft, with look-up."""
    makers: dict[str, Callable[[], Draft]] = {
        "draft model": lambda: DraftModel(draft),
        "look-up": LookUp,
    }
    tallies = {name: Tally() for name in makers}

    def plain() -> list[list[int]]:
        options = {"sampling": sampling}
        return [
            list(generate(target, text, new, seed=i, **options))
            for i, text in enumerate(texts)
        ]

    def guessed(name: str) -> list[list[int]]:
        options = {"sampling": sampling, "ahead": AHEAD, "tally": tallies[name]}
        return [
            list(
                generate_speculative(
                    target, makers[name](), text, new, seed=i, **options
                )
            )
            for i, text in enumerate(texts)
        ]

    ways = {"plain": plain} | {name: lambda name=name: guessed(name) for name in makers}
    seconds = interleave(ways, rounds, foreign=0.3)
    expected, tokens = plain(), new * len(texts)
    rows = []
    for name, took in seconds.items():
        row = {
            "name": name,
            "tokens_per_second": tokens / median(took),
            "speedup": median(
                [a / b for a, b in zip(seconds["plain"], took, strict=True)]
            ),
            "rounds_s": took,
        }
        if name in tallies:
            row["acceptance"] = tallies[name].acceptance
            row["tokens_per_read"] = tallies[name].tokens_per_read
            if sampling == GREEDY:
                row["texts_equal"] = sum(
                    a == b for a, b in zip(guessed(name), expected, strict=True)
                ) / len(texts)
        print(row, flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
