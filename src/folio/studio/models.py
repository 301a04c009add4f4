"""Loaded models: each has one engine, and one thread that alone computes with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from folio.config import UserError
from folio.infer.engine import Engine
from folio.infer.inspect import attention_patterns, next_scores
from folio.infer.worker import Worker
from folio.model.decoder import Decoder
from folio.model.store import load_tensors
from folio.stages.samples import may_chat
from folio.stages.use import load_run
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run
from folio.training.snapshot import read_snapshot, snapshot_paths

T = TypeVar("T")
MOST_MODELS = 6  # kept in memory; the one longest unused goes
MOST_REMEMBERED = 32  # scores of texts, for sliders that move
MOST_SNAPSHOTS = 8


class Loaded:
    """A run's model and tokenizer, and the thread that owns them."""

    def __init__(self, folder: Path, model: Decoder, tokenizer: Tokenizer):
        self.folder, self.model, self.tokenizer = folder, model, tokenizer
        self.chats = may_chat(folder, tokenizer)
        self.engine = Engine(model, tokenizer)
        self.worker = Worker(self.engine)
        self._scores: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    @property
    def limit(self) -> int:
        """Tokens that the model reads at most."""
        return self.model.config.max_seq_len

    def compute(self, job: Callable[[], T]) -> T:
        """Run `job` on the model's own thread, and wait for what it returns."""
        return self.worker.call(job).result()

    def next_scores(self, ids: Sequence[int]) -> torch.Tensor:
        """Scores (V,) of what could follow, of tokens that the tokenizer knows."""
        key = tuple(ids)

        def job() -> torch.Tensor:
            if key not in self._scores:
                scores = next_scores(self.model, key)[: self.tokenizer.vocab_size]
                self._scores[key] = scores.cpu()
                while len(self._scores) > MOST_REMEMBERED:
                    self._scores.popitem(last=False)
            return self._scores[key]

        return self.compute(job)

    def attention_over_steps(self, ids: Sequence[int]) -> dict[int, torch.Tensor]:
        """Patterns (L, H, T, T) of this text by the run's snapshots, by their steps.

        The kept model is among them, at the step it is from. A snapshot that is being
        removed, or holds updates of another run's weights, is left out.
        """
        paths = snapshot_paths(Run(self.folder).snapshots)[-MOST_SNAPSHOTS:]

        def job() -> dict[int, torch.Tensor]:
            found = dict(filter(None, (self._at_snapshot(p, ids) for p in paths)))
            patterns = attention_patterns(self.model, ids).cpu()
            return dict(sorted((found | {kept_step(self.folder): patterns}).items()))

        return self.compute(job)

    def _at_snapshot(
        self, path: Path, ids: Sequence[int]
    ) -> tuple[int, torch.Tensor] | None:
        """(step, patterns) by one snapshot, or None if it can't be read."""
        model = Decoder(self.model.config)
        try:
            snapshot = read_snapshot(path)
            load_tensors(model, dict(snapshot.model))
        except (UserError, OSError):
            return None
        return snapshot.state["learner"]["step"], attention_patterns(model, ids)

    def close(self) -> None:
        self.worker.close()


def kept_step(folder: Path) -> int:
    """The step that the weights in `model/` are from; 0 if nobody wrote it down."""
    info: dict[str, Any] = Run(folder).read_info()
    results = info.get("results") or {}
    for value in (results.get("best_step"), info.get("step")):
        if isinstance(value, int):
            return value
    return 0


class Models:
    """The models of runs, loaded when they are first asked for."""

    def __init__(self, device: str = "auto"):
        self.device = device
        self._lock = threading.Lock()
        self._loaded: OrderedDict[Path, tuple[int, Loaded]] = OrderedDict()

    def of(self, folder: Path) -> Loaded:
        """The model of a run; read again if training has written a newer one."""
        weights = folder.resolve() / "model"
        with self._lock:
            written = newest_change(weights)
            known = self._loaded.get(weights)
            if known is None or known[0] != written:
                if known is not None:
                    known[1].close()
                loaded = Loaded(folder, *load_run(folder, self.device))
                self._loaded[weights] = written, loaded
            self._loaded.move_to_end(weights)
            while len(self._loaded) > MOST_MODELS:
                _, (_, oldest) = self._loaded.popitem(last=False)
                oldest.close()
            return self._loaded[weights][1]

    def close(self) -> None:
        """Let go of all models, and end their threads."""
        with self._lock:
            for _, loaded in self._loaded.values():
                loaded.close()
            self._loaded.clear()


def newest_change(folder: Path) -> int:
    """When a file in it was last written, in nanoseconds; 0 without any."""
    return max((p.stat().st_mtime_ns for p in folder.glob("*.*")), default=0)
