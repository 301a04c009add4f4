"""Looking inside: what each layer would say, who sees whom, which expert does what.

Everything here is one plain forward of the model, watched; nothing changes it. The
studio and the book draw what these functions return.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.generate import check_ids
from folio.infer.sampling import (
    Sampling,
    adjust,
    keep_min_p,
    keep_top_k,
    keep_top_p,
)
from folio.model.decoder import Decoder
from folio.model.moe import routers_of
from folio.text.tokenizer import Tokenizer


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Each token by itself; a piece of a character is shown as its bytes.

    >>> from folio.text.byte import ByteTokenizer
    >>> token_texts(ByteTokenizer(), [104, 105, 0xC3])
    ['h', 'i', '<C3>']
    """
    special = {number: name for name, number in tokenizer.special_tokens.items()}
    return [special.get(i) or _as_text(tokenizer.token_bytes(i)) for i in ids]


def _as_text(piece: bytes) -> str:
    """
    >>> _as_text("né".encode()), _as_text("né".encode()[:2])
    ('né', 'n<C3>')
    """
    shown = piece.decode(errors="surrogateescape")
    return "".join(
        f"<{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else c for c in shown
    )


def as_batch(model: Decoder, ids: Sequence[int]) -> Tensor:
    """One text as a batch (1, T), where the model is; UserError if it can't be read."""
    limit = model.config.max_seq_len
    check_ids(ids, model.config)
    if len(ids) > limit:
        raise UserError(f"{len(ids)} tokens, but the model reads {limit}; shorten it")
    return torch.tensor([list(ids)], device=model.embedding.weight.device)


@contextmanager
def watching(model: Decoder) -> Iterator[None]:
    """Without gradients and dropout; the model is then as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


# ---- attention and scores ------------------------------------------------------------


def attention_patterns(model: Decoder, ids: Sequence[int]) -> Tensor:
    """Who looks at whom, in each layer and head: (L, H, T, T), rows sum to one."""
    with watching(model):
        return model.attention_maps(as_batch(model, ids))[:, 0]


def next_scores(model: Decoder, ids: Sequence[int]) -> Tensor:
    """The scores (V,) of what could follow, in fp32."""
    with watching(model):
        hidden, _ = model.hidden(as_batch(model, ids))
        return model.read(hidden[0, -1]).float()


# ---- the logit lens ------------------------------------------------------------------


class Lens(NamedTuple):
    """What the layers would say after each token; R = L + 1 readings, embedding first.

    `rank` 0 is the first: at the last reading it is 0 everywhere.
    """

    tokens: Tensor  # (R, T) likeliest token
    probabilities: Tensor  # (R, T) how likely it is
    final: Tensor  # (T,) what the model says in the end
    final_probabilities: Tensor  # (R, T) how likely that is, already here
    rank: Tensor  # (R, T) how many are likelier, here


def residuals(model: Decoder, ids: Sequence[int]) -> Tensor:
    """What flows between the layers: (L + 1, T, D), the first before any layer."""
    with watching(model):
        x, shared = model.embed(as_batch(model, ids))
        stream = [x]
        for block in model.blocks:
            stream.append(block(stream[-1], shared))
        return torch.cat(stream)


def logit_lens(
    model: Decoder, ids: Sequence[int], vocab_size: int | None = None
) -> Lens:
    """Read after every layer as if it were the last: final norm, then the head.

    (nostalgebraist 2020, "Interpreting GPT: the logit lens".) Only ids below
    `vocab_size` count, those that a tokenizer knows. One layer at a time, so that
    scores take (T, V), not (L, T, V).
    """
    readings = []
    with watching(model):
        for x in reversed(residuals(model, ids)):  # the last first: it decides
            chances = model.read(model.norm(x)).float()[:, :vocab_size].softmax(-1)
            top, tokens = chances.max(-1)
            final = readings[0][1] if readings else tokens
            theirs = chances.gather(-1, final[:, None])  # (T, 1)
            readings.append((top, tokens, theirs[:, 0], (chances > theirs).sum(-1)))
    top, tokens, theirs, rank = (
        torch.stack(r).flip(0) for r in zip(*readings, strict=True)
    )
    return Lens(tokens, top, tokens[-1], theirs, rank)


# ---- experts -------------------------------------------------------------------------


class Route(NamedTuple):
    """Where one layer sent T tokens; k experts each, of E."""

    layer: int
    experts: Tensor  # (T, k)
    weights: Tensor  # (T, k) how much each counts
    shares: Tensor  # (T, E) the router's opinion of all


def expert_routes(model: Decoder, ids: Sequence[int]) -> list[Route]:
    """The choices of every router, in the order of the layers; [] without experts."""
    routes: list[Route] = []
    hooks = []
    for name, moe in routers_of(model).items():
        layer = int(re.search(r"\d+", name)[0])

        def note(router, inputs, choice, layer=layer) -> None:
            routes.append(Route(layer, choice.experts, choice.weights, choice.shares))

        hooks.append(moe.router.register_forward_hook(note))
    try:
        if hooks:
            with watching(model):
                model.hidden(as_batch(model, ids))
    finally:
        for hook in hooks:
            hook.remove()
    return routes


# ---- candidates ----------------------------------------------------------------------


class Candidate(NamedTuple):
    """A token that could follow, and what sampling makes of it."""

    token: int
    own: float  # probability by the model, at temperature 1
    warmed: float  # after repetition penalty and temperature, before the cuts
    kept: float  # what it is really drawn with; 0 if it can't be
    cut: str = ""  # which cut removed it: top_k, top_p, min_p, temperature 0


def candidates(
    scores: Tensor, sampling: Sampling, seen: Sequence[int] = (), count: int = 20
) -> list[Candidate]:
    """The `count` likeliest of scores (V,), and which cut, if any, removed each.

    `seen` are the ids that a repetition penalty punishes. Their order is the model's
    own; the cuts act one after another, as in `adjust`.

    >>> found = candidates(torch.tensor([0.5, 0.3, 0.2]).log(), Sampling(top_k=2))
    >>> [(one.token, round(one.kept, 3), one.cut) for one in found]
    [(0, 0.625, ''), (1, 0.375, ''), (2, 0.0, 'top_k')]
    """
    scores = scores.float()[None]
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[0, list(seen)] = True
    before = Sampling(
        sampling.temperature, repetition_penalty=sampling.repetition_penalty
    )
    warmed = adjust(scores, before, mask)
    kept, cut = warmed, {}
    for name, keep in _cuts(sampling):
        left = keep(kept)
        gone = kept.isfinite() & ~left.isfinite()
        cut |= dict.fromkeys(gone[0].nonzero()[:, 0].tolist(), name)
        kept = left
    if sampling.temperature == 0:
        best = kept.argmax(-1)
        lost = kept[0].isfinite().nonzero()[:, 0].tolist()
        cut |= {i: "temperature 0" for i in lost if i != best.item()}
        kept = torch.full_like(kept, float("-inf")).index_fill(-1, best, 0.0)
    own, warm, real = (x.softmax(-1)[0] for x in (scores, warmed, kept))
    likeliest = own.topk(min(count, own.numel())).indices.tolist()
    return [
        Candidate(i, own[i].item(), warm[i].item(), real[i].item(), cut.get(i, ""))
        for i in likeliest
    ]


def _cuts(sampling: Sampling) -> Iterator[tuple]:
    """The cuts that are asked for, in the order of `adjust`: (name, function)."""
    for name, keep in (
        ("top_k", keep_top_k),
        ("top_p", keep_top_p),
        ("min_p", keep_min_p),
    ):
        value = getattr(sampling, name)
        if value is not None:
            yield name, lambda scores, keep=keep, value=value: keep(scores, value)
