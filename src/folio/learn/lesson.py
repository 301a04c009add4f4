"""Train the reference program with some of its pieces replaced by a learner's.

    python -m folio.learn.lesson MODEL STEPS OUT [NAME=FILE ...]

writes losses and samples as JSON, or in which piece and line it stopped. The pieces are
put into the package before anything else of it is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from folio.learn.exercises import find
from folio.learn.judge import check_signature, line_in, load
from folio.learn.overlay import install
from folio.learn.verdict import Fault

CHARACTERS = 300_000  # of the embedded tales
SIZES = {"max_seq_len": 64, "d_model": 64, "n_layers": 2, "n_heads": 4}
MODELS = {"gpt": "small_gpt:SmallGPT", "llama": "small_llama:SmallLlama"}
USES = {  # the exercises whose pieces take part
    "gpt": ("causal_self_attention", "small_gpt", "layer_norm"),
    "llama": ("rms_norm", "rotary", "swiglu", "grouped_queries", "visible"),
}
SHARED = (
    "char_tokenizer",
    "shifted_labels",
    "adamw_step",
    "decay_groups",
    "warmup_cosine",
    "train_gpt",
    "samples_by_step",
    "temperature",
)


def pieces_of(model: str) -> tuple[str, ...]:
    """The exercises whose answers a model is made and trained with."""
    return (*SHARED, *USES[model])


def put_in(files: dict[str, str]) -> None:
    """Let modules be imported with the learner's pieces: exercise name -> file."""

    def make(name: str) -> Any:
        exercise, file = find(name), files[name]
        mine = load(exercise, Path(file).read_text(encoding="utf-8-sig"), file)
        check_signature(exercise, mine, file)
        return mine

    install([(find(name), partial(make, name)) for name in files])


def run(model: str, steps: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The whole program: text to ids, a model, its training, its samples."""
    from folio.data import tales
    from folio.learn.reference import char_tokenizer, training

    stories, text = tales.documents(0, split="train"), ""
    while len(text) < CHARACTERS:
        text += next(stories) + "\n"
    tokenizer = char_tokenizer.CharTokenizer(text)
    ids = tokenizer.encode(text)
    module, _, name = MODELS[model].partition(":")
    make = getattr(import_module(f"folio.learn.reference.{module}"), name)
    torch.manual_seed(0)
    network = make(tokenizer.vocab_size, **SIZES)
    losses: list[float] = []

    def learning():
        length = SIZES["max_seq_len"]
        for loss in training.train_gpt(network, ids, steps, length=length):
            losses.append(loss)
            yield loss

    def write() -> str:
        start = tokenizer.encode("\n")
        written = training.write_on(network, start, 120, length=SIZES["max_seq_len"])
        return tokenizer.decode(written[1:])

    samples = []
    for step, loss, sample in training.samples_by_step(
        learning(), write, max(steps // 5, 1)
    ):
        samples.append((step, loss, sample))
        say(f"step {step:5}  loss {loss:.3f}  {' '.join(sample.split())[:60]}")
    return {"losses": losses, "samples": samples}


def main(model: str, steps: str, out: str, *pieces: str) -> None:
    """Run it, and write what came of it."""
    torch.set_num_threads(1)
    files = dict(piece.split("=", 1) for piece in pieces)
    try:
        put_in(files)
        result = run(model, int(steps), partial(print, flush=True))
    except Exception as error:
        if not files:
            raise  # ours
        result = {"failed": blamed(error, list(files.values()))}
    Path(out).write_text(json.dumps(result), encoding="utf-8")


def blamed(error: Exception, files: list[str]) -> str:
    """Which of the learner's files an exception came through, and in which line."""
    if isinstance(error, Fault):
        return error.message
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for file in files:
        if line := line_in(error, file):
            return f"{file}, line {line}: {text}"
    return f"what one of them gives can't be used: {text}"


if __name__ == "__main__":
    main(*sys.argv[1:])
