"""Answers of a model to held-out prompts, by way of the engine.

What is said to a prompt depends on the model, the prompt, the sampling and the seed;
not on what else is asked, in which order, or how many at a time. So the numbers of two
models differ by the models alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from folio.data.records import Prompt
from folio.data.rows import encode
from folio.evals.answers import Answer, Respond
from folio.infer.engine import Engine
from folio.infer.request import Handle, Request
from folio.infer.sampling import Sampling
from folio.infer.stream import is_endless
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

Say = Callable[[str], None]
UNANSWERABLE = Answer("", finished=False)  # of a prompt that the model can't read


def respond_with(
    model: Decoder,
    tokenizer: Tokenizer,
    max_new_tokens: int,
    seed: int = 0,
    max_batch: int = 128,
    say: Say = print,
) -> Respond:
    """How this model answers in at most `max_new_tokens`, its end of turn included.

    A prompt that is longer than the context gets `UNANSWERABLE`: it counts, as wrong.
    `say` is told once how many there are, and how many leave too little room.
    """
    engine = Engine(model, tokenizer, max_batch=max_batch)
    told: set[str] = set()

    def respond(
        prompts: Sequence[Prompt], sampling: Sampling, n: int
    ) -> list[list[Answer]]:
        asked = [encode(p.messages, tokenizer, p.where, True)[0] for p in prompts]
        for text in _about_room(asked, model.config, max_new_tokens):
            if text not in told:
                told.add(text)
                say(text)
        return answer_all(engine, asked, max_new_tokens, sampling, n, seed)

    return respond


def answer_all(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    n: int = 1,
    seed: int = 0,
) -> list[list[Answer]]:
    """`n` answers to each prompt of ids; equal prompts get equal answers.

    Where the context has no room for one, they are `UNANSWERABLE`. What fails while
    the model runs is raised, after the others are cancelled.
    """
    handles: list[Handle | None] = []
    try:
        for ids in prompts:
            most = min(max_new_tokens, room_after(len(ids), engine.model.config))
            request = Request(ids, max(most, 0), sampling, _chances(seed, ids), n)
            handles.append(engine.submit(request) if most > 0 else None)
        return [_answers(handle, n) for handle in handles]
    finally:
        for handle in handles:
            if handle is not None:
                handle.cancel()


def room_after(length: int, config: ModelConfig) -> int:
    """How many tokens can follow `length` of them; the last is written and not read.

    >>> config = ModelConfig(max_seq_len=8)
    >>> room_after(5, config), room_after(8, config), room_after(9, config)
    (4, 1, 0)
    """
    if is_endless(config):
        return 1 << 30
    return max(config.max_seq_len - length + 1, 0)


def _chances(seed: int, ids: Sequence[int]) -> int:
    """A seed of the prompt's own, so that its place among others doesn't matter."""
    digest = hashlib.sha256(repr((seed, list(ids))).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _answers(handle: Handle | None, n: int) -> list[Answer]:
    if handle is None:
        return [UNANSWERABLE] * n
    completions = handle.result()
    for completion in completions:
        if completion.error is not None:
            raise RuntimeError(f"prompts: {completion.error}")
    return [Answer(c.text, c.finish == "stop") for c in completions]


def _about_room(
    asked: Sequence[Sequence[int]], config: ModelConfig, max_new_tokens: int
) -> list[str]:
    """What the user must know of prompts that don't fit."""
    rooms = [room_after(len(ids), config) for ids in asked]
    unanswerable = sum(room == 0 for room in rooms)
    narrow = sum(0 < room < max_new_tokens for room in rooms)
    found = []
    if unanswerable:
        found.append(
            f"{unanswerable} of {len(asked)} prompts are longer than the context of "
            f"{config.max_seq_len} tokens: they stay unanswered, and count as wrong"
        )
    if narrow:
        found.append(
            f"{narrow} of {len(asked)} prompts leave room in the context for fewer "
            f"than {max_new_tokens} new tokens: long answers to them are cut off"
        )
    return found
