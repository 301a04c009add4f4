"""Shakespeare's characters with nanoGPT's settings for a GPU, timed to 1.4697.

`recipes/small/shakespeare.toml` as it is, in bf16: 10.6 M parameters, 5,000 steps of
64 sequences. nanoGPT gives 1.4697 for the best of its estimates; here each evaluation
is over the whole held-out part. Seconds are those of the wall from the first step on,
with evaluations, snapshots and compiling in them; what preparing the text takes stands
beside. Plain and with the model compiled.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from folio.config import build, merge, read_toml
from folio.stages.assemble import Parts
from folio.stages.pretrain import assemble_pretraining, prepare_pretraining
from folio.stages.recipe import PretrainRecipe
from folio.stages.stage import begin, describe, learn, open_parts
from folio.training.log import JsonLines, read_rows
from gpu_parts.card import Case, Row, Setup, synchronize
from record import ROOT

WANTED = 1.4697
QUICK = {
    "model": {"d_model": 32, "n_layers": 1, "n_heads": 2, "max_seq_len": 32},
    "train": {"steps": 4, "batch": 2, "eval_every": 2, "eval_batch": 64},
}


def cases(setup: Setup) -> Iterator[Case]:
    """The recipe plain, and compiled."""
    for compiled in (False, True):
        name = "compiled" if compiled else "eager"
        yield name, partial(learn_it, setup, compiled)


def learn_it(setup: Setup, compiled: bool) -> Iterator[Row]:
    """One row per evaluation, then one with what was reached and when."""
    if setup.text is None:
        raise ValueError("--text tinyshakespeare.txt wasn't given")
    with tempfile.TemporaryDirectory() as temporary:
        folder, start = Path(temporary) / "run", time.perf_counter()
        recipe = make_recipe(setup, Path(temporary))
        begin(recipe, folder, partial(prepare_pretraining, recipe), False, quiet)

        def assemble(run, tokenizer, say) -> Parts:
            return assemble_pretraining(recipe, run, tokenizer)

        parts = open_parts(recipe, folder, assemble, False, quiet)
        describe(parts, quiet)
        prepared = time.perf_counter() - start
        rows = list(run(parts, compiled))
    for row in rows:
        yield {name: row[name] for name in ("step", "val_loss", "wall_s")}
    best = min(rows, key=lambda row: row["val_loss"])
    soon = [row for row in rows if row["val_loss"] <= WANTED]
    yield {
        "wanted": WANTED,
        "seconds_to_it": soon[0]["wall_s"] if soon else None,
        "steps_to_it": soon[0]["step"] if soon else None,
        "best_val_loss": best["val_loss"],
        "best_step": best["step"],
        "whole_s": rows[-1]["wall_s"],
        "prepared_s": prepared,
    }


def make_recipe(setup: Setup, folder: Path) -> PretrainRecipe:
    """The recipe on this device, with nothing besides training and evaluating."""
    text = setup.text
    if setup.quick:  # a beginning of it will do
        beginning = text.read_text(encoding="utf-8")[:20_000]
        text = folder / "text.txt"
        text.write_text(beginning, encoding="utf-8")
    values = read_toml(ROOT / "recipes/small/shakespeare.toml")
    changes = {
        "data": {"path": str(text)},
        "train": {
            "device": str(setup.device),
            "precision": "bf16",
            "save_every": 0,
            "eval_every": 125,
            "eval_batch": 256,
        },
        "sample": {"every": 0},
    }
    values = merge(values, changes)
    return build(PretrainRecipe, merge(values, QUICK) if setup.quick else values)


def run(parts: Parts, compiled: bool) -> Iterator[Row]:
    """Train; the rows of the log that have a held-out loss."""
    if compiled:
        parts.learner.model.compile()
    synchronize()
    start = time.perf_counter()

    measure = parts.measure

    def wall() -> dict[str, float]:
        values = measure()
        synchronize()
        return values | {"wall_s": time.perf_counter() - start}

    parts.measure = wall
    learn(parts, [JsonLines(parts.run.metrics)])
    return (row for row in read_rows(parts.run.metrics) if "val_loss" in row)


def quiet(text: str) -> None:
    """Say nothing."""
