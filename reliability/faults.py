"""Row 16: something fails inside a step. Who suffers?

Mixes of requests as in row 17; at a step drawn beforehand a part of it fails, once or
more often: the model's layers, its head, the choice of tokens, the clearing of pages,
or the bookkeeping itself, for want of memory or for no reason. Whoever was in that
batch may end with an error, after tokens that are right; everybody else gets, to the
last bit, what an engine without faults gives, and every page is free in the end.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch

import folio.infer.engine as engine_module
from folio.infer.engine import Engine
from folio.infer.request import Handle
from folio.infer.sequence import Sequence as Sample
from reliability.neighbors import TOGETHER, TOKENIZER, alone, any_request, mixed
from reliability.row import Row, Tally, seeds
from reliability.service import model_of, outcome
from reliability.subject import replaced

ERRORS = (MemoryError, torch.OutOfMemoryError, RuntimeError)
PLACES: dict[str, Callable[[Engine], tuple[Any, str]]] = {
    "the layers": lambda engine: (engine.reader, "read"),
    "the head": lambda engine: (engine.model, "read"),
    "the choice": lambda engine: (engine_module, "choose_tokens"),
    "clearing pages": lambda engine: (engine.reader.store, "clear"),
    "the plan": lambda engine: (engine.scheduler, "plan"),
}


class Fault:
    """A step in which one place fails; before and after it all is well."""

    def __init__(self, chance: random.Random):
        self.at = chance.randrange(1, 20)  # then as soon as such a call comes
        self.place = chance.choice(list(PLACES))
        self.error = chance.choice(ERRORS)("injected")
        self.late = chance.choice((0, 0, 1))  # calls of that step that still succeed
        self.times = chance.choice((1, 1, 3))
        self.steps, self.hits = 0, 0
        self.struck: set[Handle] = set()  # whose samples were in a call that failed

    def step(self, engine: Engine) -> None:
        """One step, as a worker takes it."""
        self.steps += 1
        if self.steps < self.at or self.hits >= self.times:
            engine.step()
            return
        owner, name = PLACES[self.place](engine)
        real, calls = getattr(owner, name), [0]

        def fails(*arguments: Any) -> Any:
            calls[0] += 1
            if calls[0] > self.late:
                self.hits += 1
                self.struck |= self.involved(engine, arguments)
                raise self.error
            return real(*arguments)

        with replaced(owner, name, fails):
            try:
                engine.step()
            except ERRORS as error:
                engine.fail(error)

    def involved(self, engine: Engine, arguments: tuple[Any, ...]) -> set[Handle]:
        """Whose work it was: where that can't be seen, that of all who run."""
        samples = engine.scheduler.running
        if self.place == "the layers":
            samples = arguments[0].sequences
        elif self.place == "the choice":
            samples = arguments[2]
        elif self.place == "the plan":
            samples = [*samples, *engine.scheduler.waiting]
        return {sample.handle for sample in samples}


def work(home: Any, seed: int, trials: int) -> Tally:
    """`trials` mixes with a fault in each."""
    tally = Tally()
    model = model_of(seed, vocab_size=TOKENIZER.vocab_size, n_layers=1, d_model=16)
    while tally.trials < trials:
        chance = random.Random(f"{seed}-{tally.trials}")
        fault = Fault(chance)
        requests = [any_request(chance, 14) for _ in range(TOGETHER // 2)]
        where = f"seed {seed}, trial {tally.trials}: {fault.error!r} in {fault.place}"
        try:
            handles, _ = mixed(model, chance, requests, fault.step)
        except Exception as error:
            tally.note(where, f"the engine stopped: {type(error).__name__}: {error}")
            continue
        problems, kinds = [], [fault.place] if fault.hits else ["came too late"]
        for request, handle in zip(requests, handles, strict=True):
            wanted = alone(model, request, 64)
            samples = zip(handle.completions, wanted, strict=True)
            problems += [_wrong(sample, solo) for sample, solo in samples]
            ended = [sample.finish for sample in handle.completions]
            failed = "error" in ended
            kinds += ["requests that failed" if failed else "not touched"]
            if failed and handle not in fault.struck:
                problems.append("a request failed that had no part in the step")
        tally.note(where, next(filter(None, problems), None), *kinds)
    return tally


def _wrong(sample: Any, wanted: tuple) -> str | None:
    """Is what it has right, as far as it goes?"""
    if sample.finish == "error":
        if sample.error is None or "injected" not in sample.error:
            return f"it ended with {sample.error!r}"
        right = sample.ids == wanted[0][: len(sample.ids)]
    else:
        right = outcome(sample) == wanted
    return None if right else f"{outcome(sample)} instead of {wanted}"


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Whoever is in the engine ends with the error of one batch."""
    real = Engine._fail

    def everybody(
        self: Engine, sequences: list[Sample], error: Exception, touched: list[Handle]
    ) -> None:
        scheduler = self.scheduler
        real(self, [*scheduler.running, *scheduler.waiting], error, touched)

    with replaced(Engine, "_fail", everybody):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Five hundred faults; quick: 10."""
    return seeds(10, 10) if quick else seeds(500, 50)


def settled(tally: Tally) -> str | None:
    """Every place must have failed, and most requests must not have been touched."""
    missing = [place for place in PLACES if not tally.counts[place]]
    if missing:
        return f"never failed: {missing}"
    if tally.counts["not touched"] < tally.counts["requests that failed"]:
        return "most requests failed"
    return None


ROW = Row(
    16,
    "faults",
    "what fails in a step fails only those in it; the engine goes on",
    parts,
    work,
    "fails everybody for an error in one batch",
    broken,
    settled,
)
