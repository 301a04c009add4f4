"""What is served: runs under names, each with an engine; adapters share their base."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from folio.config import UserError, nearest
from folio.infer.engine import Engine
from folio.infer.grammar import Grammars
from folio.infer.request import Request
from folio.infer.stream import is_endless
from folio.model.adapter import with_adapter
from folio.model.decoder import Decoder
from folio.stages.parent import base_of, is_lora
from folio.stages.samples import may_chat
from folio.stages.use import load_run
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run

Say = Callable[[str], None]
COMPOSED = 4  # code points that normalization may make one of
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(eq=False)
class Served:
    """One model under the name that requests know it by."""

    name: str
    model: Decoder
    tokenizer: Tokenizer
    engine: Engine
    chats: bool  # was it taught to answer?
    created: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def grammars(self) -> Grammars:
        """Prepared when the first request asks for one."""
        ends = Request([0]).ends(self.tokenizer)
        if not ends:
            raise UserError("this model has no token that ends a text, so no grammar")
        return Grammars(self.tokenizer, max(ends))

    @cached_property
    def longest_text(self) -> int | None:
        """Characters beyond which no text can fit; None for models without an end.

        Some tokenizers compose characters first, so a token may stand for more.
        """
        if is_endless(self.model.config):
            return None
        special = set(self.tokenizer.special_tokens.values())
        ordinary = set(range(self.tokenizer.vocab_size)) - special
        longest = max(len(self.tokenizer.token_bytes(i)) for i in ordinary)
        return COMPOSED * longest * self.model.config.max_seq_len


class Catalog:
    """The models of a server; the first one answers who names none."""

    def __init__(self, models: Sequence[Served]):
        self.models = {served.name: served for served in models}
        if len(self.models) < len(models):
            raise UserError("two models have the same name; give names: NAME=RUN")

    def __iter__(self) -> Iterator[Served]:
        return iter(self.models.values())

    def find(self, name: str | None) -> Served | None:
        """The model of that name; without a name, the only one there is."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        return self.models.get(name or "")

    @classmethod
    def load(
        cls,
        runs: Sequence[str],
        *,
        device: str = "auto",
        memory: int | None = None,
        max_batch: int = 32,
        say: Say = print,
    ) -> Catalog:
        """Load what `RUN` or `NAME=RUN` name; LoRA runs of one base share its weights.

        memory: bytes for keys and values, of all models together.
        """
        bases: dict[Path, tuple[Decoder, Tokenizer]] = {}

        def whole(folder: Path) -> tuple[Decoder, Tokenizer]:
            place = folder.resolve()
            if place not in bases:
                bases[place] = load_run(folder, device)
            return bases[place]

        share = None if memory is None else memory // max(1, len(runs))
        models = []
        for name, folder in map(named, runs):
            if not folder.is_dir():
                raise UserError(f"{folder}: no such run{_nearby(folder)}")
            run = Run(folder)
            if is_lora(run) and not is_lora(Run(base_of(run))):
                base, _ = whole(base_of(run))
                model = with_adapter(base, run.model)
                tokenizer = Tokenizer.load(run.model)
            else:
                model, tokenizer = whole(folder)
            engine = Engine(model, tokenizer, memory=share, max_batch=max_batch)
            chats = may_chat(folder, tokenizer)
            models.append(Served(name, model, tokenizer, engine, chats))
            kind = "chat and completions" if chats else "completions only"
            say(f"{name}: {folder}, {kind}")
        return cls(models)


def named(text: str) -> tuple[str, Path]:
    """The name that a run is served under, and its folder.

    >>> named("runs/demo/grpo")
    ('grpo', PosixPath('runs/demo/grpo'))
    >>> named("small=runs/a")
    ('small', PosixPath('runs/a'))
    """
    name, equals, folder = text.partition("=")
    if not equals or Path(text).exists():
        name, folder = Path(text).resolve().name, text
    if not NAME.fullmatch(name):
        raise UserError(
            f"a model can't be named {name!r}: letters, digits, '.', '_' and '-', at "
            "most 64; write NAME=RUN"
        )
    return name, Path(folder)


def _nearby(folder: Path) -> str:
    """The name of a neighbor that may be meant."""
    try:
        others = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    return nearest(folder.name, others)
