"""Write on from a prompt, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from folio.config import UserError
from folio.infer.cache import FullCache, full_caches
from folio.infer.sampling import Sampling, choose
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

PLAIN = Sampling()


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    sampling: Sampling = PLAIN,
    seed: int = 0,
    stop: frozenset[int] = frozenset(),
    vocab_size: int | None = None,
) -> Iterator[int]:
    """Yield new token ids as they are chosen; a token of `stop` ends it, unseen.

    Only ids below `vocab_size` are chosen: a model's vocabulary may be padded beyond
    what its tokenizer can decode.

    Up to max_seq_len tokens, each is computed once and its keys and values are
    remembered. Past that, the newest max_seq_len tokens are read afresh each time.
    """
    _check(model, prompt, max_new_tokens)
    device = model.embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    seen = torch.zeros(1, model.config.vocab_size, dtype=torch.bool, device=device)
    seen[0, list(prompt)] = True
    capacity = min(len(prompt) + max_new_tokens, model.config.max_seq_len)
    cache = full_caches(
        model.config, 1, capacity, device, dtype=model.embedding.weight.dtype
    )
    ids, read = list(prompt), 0  # `read` tokens are in the cache
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            logits = _next_logits(model, ids, read, cache)  # (1, V)
            if vocab_size is not None:
                logits[:, vocab_size:] = float("-inf")
            token = choose(logits, sampling, generator, seen).item()
            if token in stop:
                return
            read = len(ids)
            ids.append(token)
            seen[0, token] = True
            yield token
    finally:
        model.train(was_training)


def _check(model: Decoder, prompt: Sequence[int], max_new_tokens: int) -> None:
    if not prompt:
        raise UserError("the prompt is empty; give at least one token")
    if min(prompt) < 0 or max(prompt) >= model.config.vocab_size:
        raise UserError(
            f"the prompt has ids from {min(prompt)} to {max(prompt)}, the model knows "
            f"0 to {model.config.vocab_size - 1}; is it another model's tokenizer?"
        )
    if max_new_tokens < 0:
        raise UserError(f"max_new_tokens = {max_new_tokens}: must be 0 or more")


def _next_logits(
    model: Decoder, ids: list[int], read: int, cache: list[FullCache]
) -> torch.Tensor:
    """Scores (1, V) of what follows `ids`, whose first `read` are in the cache."""
    device, limit = model.embedding.weight.device, model.config.max_seq_len
    if len(ids) > limit:
        return model(torch.tensor([ids[-limit:]], device=device)).logits[:, -1]
    positions = torch.arange(read, len(ids), device=device)[None]
    new = torch.tensor([ids[read:]], device=device)
    return model(new, positions, cache).logits[:, -1]


def generate_text(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    sampling: Sampling = PLAIN,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the continuation of `prompt` in whole characters, until end of text.

    An empty prompt starts from the end-of-text token: the start of some document.
    """
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    decoder = tokenizer.stream_decoder()
    stop = frozenset([tokenizer.end_of_text])
    for token in generate(
        model,
        ids,
        max_new_tokens,
        sampling=sampling,
        seed=seed,
        stop=stop,
        vocab_size=tokenizer.vocab_size,
    ):
        if piece := decoder.push(token):
            yield piece
    if piece := decoder.flush():
        yield piece
