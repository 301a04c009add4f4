"""Write on from a prompt, token by token."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.cache import make_caches
from folio.infer.sampling import Sampling, choose
from folio.infer.stream import CHUNK, Stream, is_endless
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

PLAIN = Sampling()


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int | None,
    *,
    sampling: Sampling = PLAIN,
    seed: int = 0,
    stop: frozenset[int] = frozenset(),
    vocab_size: int | None = None,
    chunk: int = CHUNK,
) -> Iterator[int]:
    """Yield new token ids as they are chosen; a token of `stop` ends it, unseen.

    Only ids below `vocab_size` are chosen: a model's vocabulary may be padded beyond
    what its tokenizer can decode. The prompt is read `chunk` tokens at a time.
    `max_new_tokens` None goes on for ever, in constant memory.

    Up to max_seq_len tokens, each is computed once and its keys and values are
    remembered. Past that, a model with a window in every layer goes on in the same way
    (`Stream`); for others the newest max_seq_len tokens are read afresh each time.
    """
    check_prompt(prompt, max_new_tokens, model.config)
    if chunk < 1:
        raise UserError(f"chunk = {chunk}: must be at least 1")
    device = model.embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    seen = torch.zeros(1, model.config.vocab_size, dtype=torch.bool, device=device)
    seen[0, list(prompt)] = True
    length = None if max_new_tokens is None else len(prompt) + max_new_tokens
    reader = _make_reader(model, length, chunk)
    new: Sequence[int] = prompt
    was_training = model.training
    model.eval()
    try:
        for _ in count() if max_new_tokens is None else range(max_new_tokens):
            logits = reader.read(new)  # (1, V)
            if vocab_size is not None:
                logits[:, vocab_size:] = float("-inf")
            token = choose(logits, sampling, generator, seen).item()
            if token in stop:
                return
            new = [token]
            seen[0, token] = True
            yield token
    finally:
        model.train(was_training)


def check_prompt(
    prompt: Sequence[int], max_new_tokens: int | None, config: ModelConfig
) -> None:
    """A UserError if a model of this shape can't write on from there, or so much."""
    check_ids(prompt, config)
    absolute = config.positions in ("learned", "sinusoidal")
    if absolute and len(prompt) > config.max_seq_len:
        raise UserError(
            f"the prompt has {len(prompt)} tokens, but {config.positions} positions "
            f"end at max_seq_len = {config.max_seq_len}; shorten it"
        )
    if max_new_tokens is not None and max_new_tokens < 0:
        raise UserError(f"max_new_tokens = {max_new_tokens}: must be 0 or more")


def check_ids(prompt: Sequence[int], config: ModelConfig) -> None:
    """A UserError if there are none, or some that the model has no embedding of."""
    if not prompt:
        raise UserError("the prompt is empty; give at least one token")
    if min(prompt) < 0 or max(prompt) >= config.vocab_size:
        raise UserError(
            f"the prompt has ids from {min(prompt)} to {max(prompt)}, the model knows "
            f"0 to {config.vocab_size - 1}; is it another model's tokenizer?"
        )


def _make_reader(model: Decoder, length: int | None, chunk: int) -> Context | Stream:
    """What reads a text of `length` tokens in all; None: without end."""
    limit = model.config.max_seq_len
    if length is None or length > limit:
        if is_endless(model.config):
            return Stream(model, chunk)
        length = limit
    return Context(model, length, chunk)


class Context:
    """Reads a text as it grows; of more than `capacity` tokens, the newest so many.

    What fits is read once, by means of caches. Beyond that every token is another's
    neighbor at another place, so all that is looked back at is read afresh.
    """

    def __init__(self, model: Decoder, capacity: int, chunk: int = CHUNK):
        weight = model.embedding.weight
        self.model, self.chunk, self.capacity = model, chunk, capacity
        self.caches = make_caches(
            model.config, 1, capacity, weight.device, weight.dtype
        )
        self.newest: deque[int] = deque(maxlen=capacity)
        self.length = 0  # tokens read in all

    def read(self, ids: Sequence[int]) -> Tensor:
        """Scores (1, V) of what follows all that was read, `ids` included."""
        self.newest.extend(ids)
        start, self.length = self.length, self.length + len(ids)
        device = self.model.embedding.weight.device
        if self.length > self.capacity:
            tokens = torch.tensor([list(self.newest)], device=device)
            return self.model.read(self.model.hidden(tokens)[0][:, -1])
        tokens = torch.tensor([list(ids)], device=device)
        positions = torch.arange(start, self.length, device=device)[None]
        pieces = tokens.split(self.chunk, 1), positions.split(self.chunk, 1)
        for piece, places in zip(*pieces, strict=True):
            hidden, _ = self.model.hidden(piece, places, self.caches)
        return self.model.read(hidden[:, -1])


def generate_text(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int | None,
    *,
    sampling: Sampling = PLAIN,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the continuation of `prompt` in whole characters, until end of text.

    An empty prompt starts from the end-of-text token: the start of some document.
    """
    ids = tokenizer.prompt_ids(prompt)
    tokens = generate(
        model,
        ids,
        max_new_tokens,
        sampling=sampling,
        seed=seed,
        stop=frozenset([tokenizer.end_of_text]),
        vocab_size=tokenizer.vocab_size,
    )
    yield from whole_characters(tokens, tokenizer)


def whole_characters(tokens: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text that goes on with `tokens`, as they come, without empty pieces.

    >>> from folio.text.byte import ByteTokenizer
    >>> list(whole_characters("né!".encode(), ByteTokenizer()))
    ['n', 'é', '!']
    """
    decoder = tokenizer.stream_decoder(continued=True)
    for token in tokens:
        if piece := decoder.push(token):
            yield piece
    if piece := decoder.flush():
        yield piece
