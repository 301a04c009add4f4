"""How likely a model finds what follows a text: the measure behind multiple choice.

`naive_likelihood` is the definition. `likelihoods` gives the same numbers sooner: in
batches, and with what neighbors have in common read once (see `folio.data.layout`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from folio.config import UserError
from folio.data.layout import respond
from folio.data.rows import Row, encode, padded
from folio.model.decoder import Decoder, Output
from folio.model.heads import chunked_logprobs, token_logprobs
from folio.objectives.logprobs import row_sums
from folio.text.tokenizer import Tokenizer

Say = Callable[[str], None]
AT_ONCE = 1 << 14  # tokens of a batch, as it stands


class Asked(NamedTuple):
    """Ids that are given, at least one, and ids that follow, at least one."""

    context: list[int]
    continuation: list[int]


class Likelihood(NamedTuple):
    """log p(continuation | context), and whether greedy decoding would write it."""

    logprob: float
    is_greedy: bool


def document_start(tokenizer: Tokenizer) -> list[int]:
    """What stands before a document in training: `<s>`, or the end of another one."""
    return tokenizer.start_ids or [tokenizer.end_of_text]


def split_text(
    context: str, continuation: str, to_ids: Callable[[str], list[int]]
) -> Asked:
    """Both as ids, encoded as the one text that they are.

    The spaces at the end of a context begin the continuation, because most tokenizers
    have learned words with the space before them. A token across the border belongs to
    the continuation: the model must say all of it.

    >>> def to_ids(text): return [len(word) for word in text.split("_")]
    >>> split_text("a_bb_c", "c_d", to_ids)
    Asked(context=[1, 2], continuation=[2, 1])
    """
    return split_ids(to_ids(context.rstrip()), to_ids(context + continuation))


def split_ids(before: Sequence[int], whole: Sequence[int]) -> Asked:
    """A text where another, which begins like it, ends or goes on otherwise."""
    shared = 0
    while shared < min(len(before), len(whole) - 1) and before[shared] == whole[shared]:
        shared += 1
    return Asked(list(whole[:shared]), list(whole[shared:]))


def as_document(tokenizer: Tokenizer) -> Callable[[str, str], Asked]:
    """(context, continuation) -> ids, as texts are read in pretraining."""
    start = document_start(tokenizer)

    def asked(context: str, continuation: str) -> Asked:
        ids = split_text(context, continuation, tokenizer.encode)
        return Asked(start + ids.context, ids.continuation)

    return asked


def as_chat(tokenizer: Tokenizer) -> Callable[[str, str], Asked]:
    """(question, answer) -> ids, as in a conversation; the end of turn is said, too."""

    def asked(question: str, answer: str) -> Asked:
        user = {"role": "user", "content": question}
        before, _ = encode([user], tokenizer, add_generation_prompt=True)
        reply = {"role": "assistant", "content": answer}
        return split_ids(before, encode([user, reply], tokenizer)[0])

    return asked


@torch.no_grad()
def naive_likelihood(model: Decoder, asked: Asked) -> Likelihood:
    """One text through the model as it stands: what all that is faster is held to."""
    context, continuation = asked
    ids = torch.tensor([context + continuation], device=model.embedding.weight.device)
    logits = model(ids[:, :-1]).logits[0, len(context) - 1 :]  # (T, V)
    logprobs = token_logprobs(logits, ids[0, len(context) :])
    greedy = logits.argmax(-1).tolist() == list(continuation)
    return Likelihood(logprobs.cpu().double().sum().item(), greedy)


@torch.no_grad()
def likelihoods(
    model: Decoder,
    asked: Sequence[Asked],
    pad: int = 0,
    at_once: int = AT_ONCE,
    say: Say = print,
) -> list[Likelihood]:
    """`naive_likelihood` of each, in their order, `at_once` tokens at a time.

    A text longer than the context of the model loses its beginning, and `say` is told
    how many do; UserError if the continuation alone is longer, or if what the model
    says isn't finite. The model is left in the mode it was in.
    """
    limit = model.config.max_seq_len
    too_long = sum(len(own) + len(then) > limit + 1 for own, then in asked)
    if too_long:
        say(
            f"{too_long} of {len(asked)} texts to be scored lost their beginning: "
            f"they are longer than the context of {limit} tokens"
        )
    rows = [row_of(each, limit) for each in asked]
    found = [Likelihood(0.0, True)] * len(rows)
    was_training = model.training
    model.eval()
    try:
        for group in _groups(asked, rows, at_once):
            measured = _measure(model, [rows[i] for i in group], pad)
            for i, likelihood in zip(group, measured, strict=True):
                found[i] = likelihood
    finally:
        model.train(was_training)
    if not all(math.isfinite(one.logprob) for one in found):
        raise UserError("this model's log-probabilities are not finite: it is broken")
    return found


def row_of(asked: Asked, limit: int) -> Row:
    """The text as a row of at most `limit` targets, weight 1 on the continuation.

    >>> row_of(Asked([5, 6, 7], [8, 9]), limit=3)
    Row(ids=array([6, 7, 8, 9]), weights=array([0., 0., 1., 1.], dtype=float32))
    """
    context, continuation = asked
    if not context or not continuation:
        raise ValueError(f"{asked}: context and continuation need a token each")
    if len(continuation) > limit:
        raise UserError(
            f"a continuation of {len(continuation)} tokens: the model reads "
            f"max_seq_len = {limit}; shorten it"
        )
    ids = torch.tensor([*context, *continuation]).numpy()
    weights = torch.ones(len(ids)).numpy()
    weights[: len(context)] = 0
    return Row(ids[-limit - 1 :], weights[-limit - 1 :])


def _groups(
    asked: Sequence[Asked], rows: Sequence[Row], at_once: int
) -> Iterator[list[int]]:
    """Batches of like length, in which the same context stands side by side."""

    def place(i: int) -> tuple:
        return len(asked[i].context), asked[i].context, len(asked[i].continuation)

    group: list[int] = []
    widest = 0
    for i in sorted(range(len(rows)), key=place, reverse=True):
        widest = max(widest, rows[i].targets)
        if group and (len(group) + 1) * widest > at_once:
            yield group
            group, widest = [], rows[i].targets
        group.append(i)
    if group:
        yield group


def _measure(model: Decoder, rows: Sequence[Row], pad: int) -> list[Likelihood]:
    batch = padded(rows, pad).to(model.embedding.weight.device)
    wanted = batch.weights != 0
    found = respond(_reading(model), batch, targets=batch.targets, where=wanted)
    sums, counts = row_sums(found.logprobs.cpu().double(), batch.weights.cpu())
    hits, _ = row_sums(found.values.cpu().double(), batch.weights.cpu())
    return [
        Likelihood(*each)
        for each in zip(sums.tolist(), (hits == counts).tolist(), strict=True)
    ]


def _reading(model: Decoder) -> Callable[..., Output]:
    """The model, called as `respond` does, whose `values` say 1 of likeliest tokens."""

    def answer(tokens: Tensor, targets: Tensor, where: Tensor, **places: Tensor):
        hidden, _ = model.hidden(tokens, **places)
        found = chunked_logprobs(
            model.read,
            hidden[where],
            targets[where],
            model.config.vocab_size,
            measure=logprobs_and_hits,
        )
        spread = found.new_zeros(*where.shape, 2).index_put((where,), found)
        return Output(logprobs=spread[..., 0], values=spread[..., 1])

    return answer


def logprobs_and_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target), and 1 where it is the likeliest: (..., V), (...) -> (..., 2).

    >>> logprobs_and_hits(torch.tensor([[0.0, 0.0, 5.0]]), torch.tensor([2]))[:, 1]
    tensor([1.])
    """
    logprobs = token_logprobs(logits, targets)
    return torch.stack([logprobs, (logits.argmax(-1) == targets).to(logprobs)], -1)
