"""The whole path in a few minutes, on text that needs no download."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

from folio.config import build, merge, read_toml
from folio.data import tales
from folio.data.shards import open_shards
from folio.evals.copying import copy_accuracy
from folio.evals.ngram import KneserNey
from folio.files import write_atomically
from folio.infer.generate import generate_text
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.stages.prepare import shard_folder
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.stages.use import load_run
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run
from folio.viz.report import write_report

PROBES = 600
SMOKE = {
    "data": {"megabytes": 0.6},
    "tokenizer": {"vocab_size": 1024},
    "optim": {"warmup": 10},
    "train": {"steps": 120, "eval_every": 60, "save_every": 0},
    "sample": {"every": 40, "max_new_tokens": 40},
}


def demo_recipe(*, smoke: bool, seed: int) -> PretrainRecipe:
    """What the demo trains; `smoke` is the same, only far too short."""
    with as_file(files("folio.stages") / "demo.toml") as path:
        values = merge(read_toml(path), SMOKE if smoke else {})
    return build(PretrainRecipe, merge(values, {"seed": seed}))


def demo(folder: Path | None, *, smoke: bool, seed: int) -> None:
    """`folio demo`: tokenizer, shards, pretraining, measures, samples, a report."""
    recipe = demo_recipe(smoke=smoke, seed=seed)
    folder = folder or _free_folder(Path("runs"), "demo-smoke" if smoke else "demo")
    probes = tales.copy_probes(0, PROBES // 10 if smoke else PROBES)

    def copying(model: Decoder, tokenizer: Tokenizer) -> dict[str, float]:
        return copy_accuracy(model, tokenizer, probes)

    run = pretrain(recipe, folder, also_measure=copying)
    table = results(recipe, run)
    write_atomically(run.folder / "results.json", json.dumps(table, indent=1) + "\n")
    print_table(table)
    model, tokenizer = load_run(run.folder)
    for number, prompt in enumerate(recipe.sample.prompts):
        print(f"\n{prompt}{story(model, tokenizer, prompt, number)}")
    print(f"\nreport   {write_report(run.folder)}")
    print(f'more     folio generate {run.folder} "One morning,"')
    if sys.stdin.isatty() and not smoke:
        talk(model, tokenizer)


def _free_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ...: the first that isn't there."""
    candidates = _numbered(parent / name)
    return next(folder for folder in candidates if not folder.exists())


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}-{number}")
        number += 1


def results(recipe: PretrainRecipe, run: Run) -> dict:
    """The model beside n-gram models that have counted the very same tokens."""
    tokenizer = Tokenizer.load(run.model)
    folder = shard_folder(recipe, run)
    train = open_shards(folder, "train", tokenizer)
    held_out = open_shards(folder, "validation", tokenizer)
    rows = []
    for order in (2, 3, 4, 5):
        counted = KneserNey(train[:], tokenizer.vocab_size, order)
        bits = counted.bits_per_byte(held_out[:], held_out.text_bytes)
        rows.append([f"{order}-gram, Kneser-Ney", bits])
    best = rows[-1][1]
    ours = run.read_info()["results"]["val_bits_per_byte"]
    rows.append([f"this model, {recipe.train.steps:,} steps", ours])
    return {
        "title": "Bits per byte of held-out tales (fewer are better)",
        "columns": ["model", "bits per byte", "against the 5-gram"],
        "rows": [
            [name, round(bits, 4), f"{100 * (bits / best - 1):+.1f} %"]
            for name, bits in rows
        ],
    }


def print_table(table: dict) -> None:
    """The same table for a terminal."""
    print(f"\n{table['title']}")
    for name, bits, against in table["rows"]:
        print(f"  {name:28}{bits:>8.4f}   {against:>8}")


def story(model: Decoder, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """How the model goes on from `prompt`; cool enough to keep to the matter."""
    sampling = Sampling(temperature=0.5)
    pieces = generate_text(
        model, tokenizer, prompt, max_new_tokens=110, sampling=sampling, seed=seed
    )
    return "".join(pieces)


def talk(model: Decoder, tokenizer: Tokenizer) -> None:
    """Write the beginning of a story, read how the model goes on; empty: the end."""
    print("\nBegin a story, and the model goes on; an empty line ends.")
    seed = 0
    while True:
        try:
            prompt = input("> ").strip()
        except EOFError:
            return
        if not prompt:
            return
        seed += 1
        print(f"{prompt}{story(model, tokenizer, prompt, seed)}\n")
