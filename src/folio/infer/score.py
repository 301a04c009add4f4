"""What a model makes of a text that is there already: chances, and one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.generate import check_ids
from folio.infer.request import Token
from folio.model.decoder import Decoder

AT_ONCE = 1 << 24  # logits that may be in memory together


def score_text(model: Decoder, ids: Sequence[int], top: int = 0) -> list[Token]:
    """Every token but the first, with its log-prob after those before it.

    At temperature 1 and without cuts; `top` of the likeliest ids beside each.
    """
    hidden = last_hidden(model, ids)[:-1]
    followers = torch.tensor(ids[1:], device=hidden.device)
    rows = max(1, AT_ONCE // model.config.vocab_size)
    tokens: list[Token] = []
    for some, wanted in zip(hidden.split(rows), followers.split(rows), strict=True):
        logprobs = model.read(some).float().log_softmax(-1)
        own = logprobs.gather(-1, wanted[:, None])[:, 0].tolist()
        likeliest = logprobs.topk(min(top, logprobs.shape[-1]), -1)
        for token, logprob, names, values in zip(
            wanted.tolist(),
            own,
            likeliest.indices.tolist(),
            likeliest.values.tolist(),
            strict=True,
        ):
            pairs = tuple(zip(names, values, strict=True))
            tokens.append(Token(token, logprob, pairs))
    return tokens


def text_vector(model: Decoder, ids: Sequence[int]) -> Tensor:
    """The mean of the last hidden states, of length 1: (D,) fp32, on the CPU."""
    mean = last_hidden(model, ids).float().mean(0)
    return (mean / mean.norm().clamp(min=1e-12)).cpu()


@torch.no_grad()
def last_hidden(model: Decoder, ids: Sequence[int]) -> Tensor:
    """What the head reads of each token: (T, D). UserError if there are too many."""
    check_ids(ids, model.config)
    limit = model.config.max_seq_len
    if len(ids) > limit:
        raise UserError(
            f"a text of {len(ids)} tokens: the model reads max_seq_len = {limit}; "
            "shorten it"
        )
    device = model.embedding.weight.device
    return model.hidden(torch.tensor([list(ids)], device=device))[0][0]
