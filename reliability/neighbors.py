"""Row 17: alone or among others. Is it the same answer?

Requests of all kinds (greedy and by chance, several samples, stop strings, biases,
penalties, grammars) go into one small engine, at random moments, in chunks of random
size; some are cancelled, prompts share their beginnings, memory is short. Each must get
what it gets from an engine of its own, to the last bit of its log-probs.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from folio.infer.grammar import Grammars
from folio.infer.request import Handle, Request
from folio.infer.steering import Steering
from folio.text.byte import ByteTokenizer
from reliability.row import Row, Tally, seeds
from reliability.service import (
    check_empty,
    check_pages,
    engine_of,
    model_of,
    outcome,
    random_request,
)
from reliability.subject import replaced

TOKENIZER = ByteTokenizer()
SHAPES = {
    "plain": {},
    "learned": {"positions": "learned", "norm": "layernorm", "mlp": "gelu"},
    "window": {"window": 20, "sinks": 2},
    "hybrid": {"window": 9, "sinks": 3, "attention_pattern": "wf"},
    "softcap": {"attention_softcap": 20.0, "logit_softcap": 30.0, "qk_norm": True},
}
SCHEMA = {"type": "array", "items": {"type": "integer"}, "maxItems": 4}
TOGETHER = 10  # requests of one mix


@functools.cache
def grammars() -> Grammars:
    return Grammars(TOKENIZER, TOKENIZER.end_of_text)


def any_request(chance: random.Random, longest: int = 30) -> Request:
    """As the engine's tests draw them, half of them steered."""
    request = random_request(chance, longest)
    if chance.random() < 0.3:
        request = replace(request, stop=(chr(chance.randrange(32, 127)), "ab"))
    if chance.random() < 0.5:
        return request
    biases = {chance.randrange(263): chance.uniform(-100, 9) for _ in range(4)}
    grammar = grammars().json(SCHEMA) if chance.random() < 0.3 else None
    steering = Steering(
        biases, chance.uniform(-2, 2), chance.choice((0.0, 1.5)), grammar
    )
    return replace(request, steering=steering)


def alone(model: Any, request: Request, chunk: int) -> list[tuple]:
    """What a fresh engine gives that has nothing else to do."""
    engine = engine_of(model, tokenizer=TOKENIZER, chunk=chunk)
    return [outcome(sample) for sample in engine.submit(request).result()]


def mixed(
    model: Any,
    chance: random.Random,
    requests: list[Request],
    step: Callable[[Any], Any] = lambda engine: engine.step(),
) -> tuple[list[Handle], Any]:
    """The same requests in one small engine; pages are counted after each step."""
    engine = engine_of(
        model,
        pages=chance.choice((9, 10, 11, 40)),
        tokenizer=TOKENIZER,
        max_batch=chance.choice((3, 5, 9)),
        chunk=chance.choice((16, 32, 64, 128)),
    )
    todo, handles, doomed = list(requests), [], []
    while todo or not all(handle.done for handle in handles):
        if todo and chance.random() < 0.3:
            handles.append(engine.submit(todo.pop(0)))
        if chance.random() < 0.1:
            doomed.append(engine.submit(any_request(chance)))
        if doomed and chance.random() < 0.1:
            doomed.pop(0).cancel()
        step(engine)
        check_pages(engine)
    for handle in doomed:
        handle.cancel()
    check_empty(engine)
    return handles, engine


def work(home: Any, seed: int, trials: int, shape: str) -> Tally:
    """`trials` requests to one model."""
    tally, chance = Tally(), random.Random(f"{seed} {shape}")
    model = model_of(seed, vocab_size=TOKENIZER.vocab_size, **SHAPES[shape])
    while tally.trials < trials:
        first = tally.trials
        requests = [any_request(chance) for _ in range(TOGETHER)]
        chunk = chance.choice((16, 64, 256))
        where = f"{shape}, seed {seed}, requests from {first}"
        try:
            handles, engine = mixed(model, chance, requests)
        except AssertionError as error:
            tally.note(where, f"pages are miscounted: {error}")
            continue
        tally.counts["preemptions"] += engine.scheduler.preemptions
        for request, handle in zip(requests, handles, strict=True):
            found = [outcome(sample) for sample in handle.completions]
            same = found == alone(model, request, chunk)
            cached = any(sample.cached_tokens for sample in handle.completions)
            kinds = ["from memory"] * cached + ["steered"] * bool(request.steering)
            problem = None if same else f"{request} gives something else among others"
            tally.note(where, problem, *kinds)
    return tally


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Pages of prompts are found by their first token, not by all that leads there."""
    import folio.infer.engine as engine

    real = engine.page_names

    def hasty(prompt: list[int], size: int) -> list[bytes]:
        names = real(prompt, size)
        return [b"%d %d" % (prompt[0], number) for number in range(len(names))]

    with replaced(engine, "page_names", hasty):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Five thousand requests to five models; quick: 20 to two."""
    names = ("plain", "hybrid") if quick else tuple(SHAPES)
    each = 10 if quick else 1000
    return {
        f"{shape}-{part}": arguments
        for shape in names
        for part, arguments in seeds(each, 100, shape=shape).items()
    }


def settled(tally: Tally) -> str | None:
    """Requests must have been put back, and found their prompts in memory."""
    lacking = [k for k in ("preemptions", "from memory") if not tally.counts[k]]
    return f"none of the trials had: {lacking}" if lacking else None


ROW = Row(
    17,
    "neighbors",
    "an answer depends on its request alone, not on neighbors, chunks or memory",
    parts,
    work,
    "finds pages of a prompt by its first token",
    broken,
    settled,
)
