"""What the trials are made on: the smallest things that really learn and are saved."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from folio.config import build, merge
from folio.data.text import TextStream
from folio.data.tokens import Tokens
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.schedule import warmup_cosine
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.training.learner import Learner

VOCABULARY, CONTEXT = 17, 16
TIMES = ("seconds", "per_second")  # what ends like this depends on the clock
TENSORS = ("model.safetensors", "optim.safetensors", "rng.safetensors")


def small_learner(width: int = 8, layers: int = 1, **options: Any) -> Learner:
    """A learner that is the same each time; `options` are those of `Learner`."""
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "max_seq_len": CONTEXT, "n_heads": 2}
    config = ModelConfig(d_model=width, n_layers=layers, dropout=0.1, **shape)
    model = Decoder(config)
    return Learner(model, adamw(model, 1e-2), warmup_cosine(4, 100), **options)


def small_stream(**options: Any) -> TextStream:
    """Windows over a pattern with a period that no window has."""
    ids = [(i * i + i // 7) % VOCABULARY for i in range(400)]
    tokens = Tokens.from_ids(ids, vocab_size=VOCABULARY)
    options = {"batch": 2, "seed": 3} | options
    return TextStream(tokens, length=CONTEXT, **options)


def learn(learner: Learner, stream: TextStream, steps: int) -> None:
    """So many updates."""
    for _ in range(steps):
        learner.update([next(stream)], next_token)


def small_recipe(home: Path, **changes: Any) -> PretrainRecipe:
    """Everything that draws random numbers is on: dropout, accumulation, samples."""
    text = home / "tale.txt"
    if not text.exists():
        text.write_text("".join(f"{i} hens sat on {i % 7} eggs.\n" for i in range(99)))
    values = {
        "data": {"path": str(text)},
        "tokenizer": {"kind": "char"},
        "model": {
            "d_model": 16,
            "n_layers": 1,
            "n_heads": 2,
            "max_seq_len": 16,
            "dropout": 0.2,
        },
        "optim": {"warmup": 4},
        "train": {
            "steps": 16,
            "batch": 2,
            "accumulate": 4,
            "save_every": 1,
            "eval_every": 5,
            "keep": 1,
            "device": "cpu",
        },
        "sample": {"every": 6, "max_new_tokens": 4},
        "log": {"every": 3},
    }
    return build(PretrainRecipe, merge(values, changes))


def train_small(recipe: PretrainRecipe, folder: Path, resume: bool = False) -> None:
    """`pretrain` without a word."""
    with quietly():
        pretrain(recipe, folder, resume=resume, say=silent)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What is printed meanwhile is thrown away."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def silent(text: str) -> None:
    """Say nothing."""


# ---- comparing -----------------------------------------------------------------------


def what_is_left(folder: Path, step: int) -> dict[str, Any]:
    """All of a run at `step` that must not depend on whether it was interrupted."""
    last = folder / f"snapshots/step-{step:08d}"
    left: dict[str, Any] = {}
    for name in TENSORS:
        left |= {f"{name}:{k}": t for k, t in load((last / name).read_bytes()).items()}
    state = json.loads((last / "state.json").read_text())
    state["progress"].pop("seconds")
    left["state.json"] = state
    for name in ("metrics.jsonl", "samples.jsonl"):
        left[name] = log_rows(folder / name)
    left["model"] = {p.name: p.read_bytes() for p in (folder / "model").iterdir()}
    left["debris"] = debris(folder)
    return left


def log_rows(path: Path) -> list[dict[str, Any]]:
    """A log without what depends on the clock; empty if there is none."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{k: v for k, v in r.items() if not k.endswith(TIMES)} for r in rows]


def debris(folder: Path) -> list[str]:
    """Whatever half-written things lie below `folder`."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob(".tmp-*"))


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the parts that are not equal."""
    wrong = sorted(one.keys() ^ other.keys())
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        wrong += [] if same else [name]
    return wrong


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """`owner.name` is `value` meanwhile; it must exist, or nothing would be broken."""
    real = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextlib.contextmanager
def instant_disk() -> Iterator[None]:
    """No waiting for the disk, where what reaches it when is another topic's matter."""
    import os

    with replaced(os, "fsync", lambda handle: None):
        yield
