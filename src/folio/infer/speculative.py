"""Speculative decoding: guess some tokens cheaply, let the model check them at once.

To read five tokens costs a model hardly more than to read one, since its weights must
come from memory in both cases. So somebody quick guesses what follows, the model reads
all guesses in one go, and as many are kept as leave its distribution exactly what it
was (Leviathan et al. 2023; Chen et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.cache import FullCache
from folio.infer.generate import PLAIN, check_prompt, whole_characters
from folio.infer.sampling import Sampling, adjust
from folio.infer.stream import is_endless
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

# ---- the rule ------------------------------------------------------------------------


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """How often a token guessed from q is kept where p is wanted: min(1, p / q).

    >>> acceptance(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.25, 0.6, 0.15]))
    tensor([1.0000, 0.5000, 1.0000])
    """
    return (p / q).clamp(max=1)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """What a refused guess is replaced from: max(p - q, 0), made to sum to one.

    Guesses that are kept give min(p, q) of each token; this gives the rest of p
    (Leviathan et al. 2023, appendix A.1). If rounding has left nothing, p itself.

    >>> residual(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.25, 0.6, 0.15]))
    tensor([0.8333, 0.0000, 0.1667])
    """
    rest = (p - q).clamp(min=0)
    total = rest.sum(-1, keepdim=True)
    return torch.where(total > 0, rest / total, p)


def verify(
    guesses: Sequence[int], p: Tensor, q: Tensor, generator: torch.Generator
) -> list[int]:
    """The guesses that are kept, and one token more: distributed as p, whatever q is.

    Guess i was drawn from q[i]; q (N, V), and p (N + 1, V), what the model wants at
    each place and after the last.
    """
    places = torch.arange(len(guesses), device=p.device)
    wanted = torch.tensor(guesses, dtype=torch.long, device=p.device)
    chances = acceptance(p[places, wanted], q[places, wanted])
    draws = torch.rand(len(guesses), generator=generator, device=p.device)
    for i, kept in enumerate((draws < chances).tolist()):
        if not kept:
            return [*guesses[:i], draw(residual(p[i], q[i]), generator)]
    return [*guesses, draw(p[-1], generator)]


def draw(p: Tensor, generator: torch.Generator) -> int:
    """One token from the distribution p (V,)."""
    return int(torch.multinomial(p, 1, generator=generator))


@dataclass(frozen=True)
class Chooser:
    """From scores to the distribution that tokens are drawn from."""

    sampling: Sampling
    vocab_size: int | None  # ids from here on are never chosen
    generator: torch.Generator

    def probabilities(self, logits: Tensor, ids: Sequence[int]) -> Tensor:
        """logits (N, V) of what follows each of the last N of `ids` -> (N, V).

        Greedy choice is the distribution that has but one token.
        """
        seen = None
        if self.sampling.repetition_penalty != 1.0:
            seen = seen_by(ids, logits)
        if self.vocab_size is not None:
            logits = logits.clone()
            logits[:, self.vocab_size :] = float("-inf")
        logits = adjust(logits, self.sampling, seen)
        if self.sampling.temperature == 0.0:
            best = logits.argmax(-1, keepdim=True)
            return torch.zeros_like(logits).scatter_(-1, best, 1.0)
        return logits.softmax(-1)


def seen_by(ids: Sequence[int], logits: Tensor) -> Tensor:
    """Which tokens stand in the text up to each of the last N ids: (N, V) bool.

    >>> seen_by([2, 0, 1], torch.zeros(2, 3)).int()
    tensor([[1, 0, 1],
            [1, 1, 1]], dtype=torch.int32)
    """
    seen = torch.zeros_like(logits, dtype=torch.bool)
    first = len(ids) - len(logits) + 1
    seen[:, list(ids[:first])] = True
    for row, token in enumerate(ids[first:], start=1):
        seen[row:, token] = True
    return seen


# ---- reading a text that is taken back now and then ----------------------------------


class RewindReader:
    """Reads texts that mostly agree with the last one: only what differs is read anew.

    The keys of guesses that were refused stay in the caches, and are never seen: they
    stand at positions that are read again before any query comes that far. A rolling
    cache couldn't do this, for a refused token has overwritten an older one by then;
    so all of up to `capacity` tokens is remembered, in windowed layers too.
    """

    def __init__(self, model: Decoder, capacity: int):
        config, weight = model.config, model.embedding.weight
        self.model, self.capacity = model, capacity
        shape = 1, config.kv_heads, capacity, config.head_width
        self.caches: list[FullCache] = []
        for _ in range(config.n_layers):
            beside = self.caches[0] if self.caches else None
            kind = weight.device, weight.dtype, beside
            self.caches.append(FullCache(*shape, *kind))
        self.ids: list[int] = []  # what the caches hold

    @torch.no_grad()
    def read(self, ids: Sequence[int], rows: int = 1) -> Tensor:
        """Scores (rows, V) of what follows each of the last `rows` of `ids`.

        Of more than `capacity` tokens the newest max_seq_len are read afresh, and one
        row only can be had.
        """
        device = self.model.embedding.weight.device
        if len(ids) > self.capacity:
            newest = torch.tensor([ids[-self.model.config.max_seq_len :]])
            return self.model.read(self.model.hidden(newest.to(device))[0][0, -1:])
        start = min(self._common(ids), len(ids) - rows)
        positions = torch.arange(start, len(ids), device=device)[None]
        tokens = torch.tensor([ids[start:]], device=device)
        hidden, _ = self.model.hidden(tokens, positions, self.caches)
        self.ids = list(ids)
        return self.model.read(hidden[0, -rows:])

    def _common(self, ids: Sequence[int]) -> int:
        """How many tokens at the beginning of `ids` were read the last time."""
        pairs = enumerate(zip(ids, self.ids, strict=False))
        least = min(len(ids), len(self.ids))
        return next((i for i, (new, old) in pairs if new != old), least)


# ---- who guesses ---------------------------------------------------------------------


class Draft(Protocol):
    """Somebody who guesses how a text goes on."""

    def propose(
        self, ids: Sequence[int], count: int, chooser: Chooser
    ) -> tuple[list[int], Tensor | None]:
        """At most `count` tokens, and the distributions (N, V) they were drawn from.

        None for the second stands for certainty: nothing else could have been guessed.
        """


class DraftModel:
    """A smaller model with the same vocabulary; past its max_seq_len it is silent."""

    def __init__(self, model: Decoder):
        self.model = model.eval()
        self.reader = RewindReader(model, model.config.max_seq_len)

    def propose(
        self, ids: Sequence[int], count: int, chooser: Chooser
    ) -> tuple[list[int], Tensor | None]:
        """See `Draft`: drawn one by one, in the way that the model's own are."""
        text, q = list(ids), []
        for _ in range(min(count, self.reader.capacity - len(ids) + 1)):
            q.append(chooser.probabilities(self.reader.read(text), text))
            text.append(draw(q[-1][0], chooser.generator))
        return text[len(ids) :], torch.cat(q) if q else None


class LookUp:
    """Prompt look-up: what followed the last few tokens when they stood here before.

    No model at all; good where a text repeats itself, as a summary or code does
    (Saxena 2023). The longest match of up to `longest` tokens counts, then the newest.
    """

    def __init__(self, longest: int = 3):
        self.longest = longest
        self.ids: list[int] = []
        self.after: dict[tuple[int, ...], int] = {}  # an n-gram -> where it ended last

    def propose(
        self, ids: Sequence[int], count: int, chooser: Chooser
    ) -> tuple[list[int], Tensor | None]:
        """See `Draft`."""
        self._remember(list(ids))
        for n in range(min(self.longest, len(ids) - 1), 0, -1):
            end = self.after.get(tuple(ids[-n:]))
            if end is not None:
                return list(ids[end : end + count]), None
        return [], None

    def _remember(self, ids: list[int]) -> None:
        """Note each n-gram but those at the very end, which nothing has followed."""
        if ids[: len(self.ids)] != self.ids:
            self.ids, self.after = [], {}
        for end in range(max(len(self.ids), 1), len(ids)):
            for n in range(1, min(self.longest, end) + 1):
                self.after[tuple(ids[end - n : end])] = end
        self.ids = ids


# ---- writing on ----------------------------------------------------------------------


@dataclass
class Tally:
    """What the guesses were good for."""

    guessed: int = 0
    kept: int = 0
    reads: int = 0  # forward passes of the model itself

    @property
    def acceptance(self) -> float:
        """The share of the guesses that were kept."""
        return self.kept / self.guessed if self.guessed else 0.0

    @property
    def tokens_per_read(self) -> float:
        """1 without any guesses."""
        return (self.kept + self.reads) / self.reads if self.reads else 0.0


@torch.no_grad()
def generate_speculative(
    model: Decoder,
    draft: Draft,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    ahead: int = 4,
    sampling: Sampling = PLAIN,
    seed: int = 0,
    stop: frozenset[int] = frozenset(),
    vocab_size: int | None = None,
    tally: Tally | None = None,
) -> Iterator[int]:
    """Yield new token ids as `generate` does, up to `ahead` + 1 of them at a time.

    Their distribution is that of `generate`, and greedy tokens are the same; a seed
    gives other draws. Where the model reads each token afresh, past max_seq_len without
    a window, nothing is guessed. `tally` counts the guesses.
    """
    check_prompt(prompt, max_new_tokens, model.config)
    if ahead < 1:
        raise UserError(f"ahead = {ahead}: must be at least 1")
    generator = torch.Generator(model.embedding.weight.device).manual_seed(seed)
    chooser = Chooser(sampling, vocab_size, generator)
    tally = Tally() if tally is None else tally
    ids, end = list(prompt), len(prompt) + max_new_tokens
    capacity = end if is_endless(model.config) else model.config.max_seq_len
    reader = RewindReader(model, min(end, capacity))
    was_training = model.training
    model.eval()
    try:
        while len(ids) < end:
            room = min(ahead, end - len(ids) - 1, reader.capacity - len(ids))
            new = _next_tokens(reader, draft, ids, max(room, 0), chooser, tally)
            for token in new:
                if token in stop:
                    return
                ids.append(token)
                yield token
    finally:
        model.train(was_training)


def _next_tokens(
    reader: RewindReader,
    draft: Draft,
    ids: list[int],
    count: int,
    chooser: Chooser,
    tally: Tally,
) -> list[int]:
    """At most `count` guesses, checked, and one token more."""
    guesses, q = draft.propose(ids, count, chooser) if count else ([], None)
    vocab_size = reader.model.config.vocab_size
    if q is not None and q.shape[1] != vocab_size:
        raise UserError(
            f"the draft has a vocabulary of {q.shape[1]}, the model one of {vocab_size}"
            "; both need the same tokenizer"
        )
    text = ids + guesses
    scores = reader.read(text, len(guesses) + 1)
    p = chooser.probabilities(scores, text)
    if q is None:
        q = torch.zeros_like(p[:-1])
        q[range(len(guesses)), guesses] = 1.0
    new = verify(guesses, p, q, chooser.generator)
    tally.guessed += len(guesses)
    tally.kept += len(new) - 1
    tally.reads += 1
    return new


def speculative_text(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    draft: Draft,
    *,
    ahead: int = 4,
    sampling: Sampling = PLAIN,
    seed: int = 0,
    tally: Tally | None = None,
) -> Iterator[str]:
    """`generate_text` with a draft: yield whole characters, until end of text."""
    tokens = generate_speculative(
        model,
        draft,
        tokenizer.prompt_ids(prompt),
        max_new_tokens,
        ahead=ahead,
        sampling=sampling,
        seed=seed,
        stop=frozenset([tokenizer.end_of_text]),
        vocab_size=tokenizer.vocab_size,
        tally=tally,
    )
    yield from whole_characters(tokens, tokenizer)
