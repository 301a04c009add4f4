"""What the model does with one text: attention, layers, experts, what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from folio.config import UserError
from folio.infer.inspect import candidates, expert_routes, logit_lens, token_texts
from folio.infer.sampling import Sampling, choose
from folio.studio.models import Loaded
from folio.studio.text import checked, ids_of
from folio.training.run import Run
from folio.viz.attention import (
    BUDGET,
    LONGEST,
    Attention,
    attention_view,
    read_attention,
)
from folio.viz.candidates import Option, options_view
from folio.viz.dialog import notice
from folio.viz.lens import Reading, lens_view
from folio.viz.markup import Markup, join
from folio.viz.routes import Routing, routes_view

MOST_COLUMNS = 64  # tokens of a grid
SHOWN = 20  # candidates
BYTES_OF_A_CHARACTER = 4  # at most: so many tokens may go by before one can be shown
REASONS = {
    "top_k": "cut by top-k",
    "top_p": "cut by top-p",
    "min_p": "cut by min-p",
    "temperature 0": "temperature 0 takes the first",
}


def shortened(ids: Sequence[int], most: int) -> tuple[list[int], Markup | None]:
    """The first `most` tokens, and a sentence if there are more."""
    if len(ids) <= most:
        return list(ids), None
    text = f"The first {most} of {len(ids):,} tokens are shown."
    return list(ids[:most]), notice(text, "plain")


# ---- attention -----------------------------------------------------------------------


def attention_of(loaded: Loaded, text: str) -> Markup:
    """The text through all snapshots of the run, every layer and head."""
    config = loaded.model.config
    fits = math.isqrt(BUDGET // (config.n_layers * config.n_heads))
    ids, note = shortened(
        ids_of(loaded, checked(text, filled=True)), min(LONGEST, fits)
    )
    steps = loaded.attention_over_steps(ids)
    weights = [whole(patterns.numpy()) for patterns in steps.values()]
    tokens = token_texts(loaded.tokenizer, ids)
    return join([attention_view(Attention(tokens, list(steps), weights)), note])


def whole(weights: np.ndarray) -> np.ndarray:
    """Weights of 0 to 1 as bytes, as records of a run have them."""
    return np.rint(np.clip(weights, 0, 1) * 255).astype(np.uint8)


def recorded_attention(loaded: Loaded) -> Markup:
    """The sentence that was watched while the run learned, at every recorded step."""
    path = Run(loaded.folder).figures / "attention.json"
    record = read_attention(path)
    if record is None:
        raise UserError(
            "this run recorded no attention while it learned; write a sentence of your "
            "own"
        )
    return attention_view(record)


# ---- what comes next -----------------------------------------------------------------


def next_token(
    loaded: Loaded, text: str, sampling: Sampling, chat: bool = False
) -> Markup:
    """The likeliest tokens, before and after temperature and cuts."""
    ids = ids_of(loaded, text, chat)
    scores = loaded.next_scores(ids)
    found = candidates(scores, sampling, seen_of(ids, scores), SHOWN)
    texts = token_texts(loaded.tokenizer, [one.token for one in found])
    options = [
        Option(name, one.own, one.kept, REASONS.get(one.cut, one.cut))
        for name, one in zip(texts, found, strict=True)
    ]
    rest = 1 - sum(one.own for one in found)
    return options_view(options, rest if rest > 1e-6 else 0.0)


def draw_token(
    loaded: Loaded, text: str, sampling: Sampling, seed: int, chat: bool = False
) -> str:
    """What is drawn with these settings, a whole character at least; "" at an end."""
    ids, tokenizer = ids_of(loaded, text, chat), loaded.tokenizer
    ends = set(tokenizer.special_tokens.values())
    generator = torch.Generator().manual_seed(seed)
    decoder = tokenizer.stream_decoder(continued=True)
    for _ in range(BYTES_OF_A_CHARACTER):
        scores = loaded.next_scores(ids)
        seen = torch.zeros_like(scores, dtype=torch.bool)
        seen[seen_of(ids, scores)] = True
        token = choose(scores[None], sampling, generator, seen[None]).item()
        if token in ends or len(ids) >= loaded.limit:
            return ""
        if piece := decoder.push(token):
            return piece
        ids.append(token)
    return decoder.flush()


def seen_of(ids: Sequence[int], scores: torch.Tensor) -> list[int]:
    """Those of the text's ids that can be written, for the repetition penalty."""
    return [i for i in ids if i < len(scores)]


def sampling_of(
    temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> Sampling:
    """What sliders say; at their ends the cuts do nothing.

    >>> sampling_of(1.0, 0, 1.0, 0.0, 1.0) == Sampling()
    True
    """
    return Sampling(
        float(temperature),
        int(top_k) or None,
        float(top_p) if top_p < 1 else None,
        float(min_p) or None,
        float(penalty),
    )


# ---- layers and experts --------------------------------------------------------------


def layers_of(loaded: Loaded, text: str, chat: bool = False) -> Markup:
    """The logit lens over the text."""
    ids, note = shortened(ids_of(loaded, text, chat), MOST_COLUMNS)
    size = loaded.tokenizer.vocab_size
    lens = loaded.compute(lambda: logit_lens(loaded.model, ids, size))
    final = token_texts(loaded.tokenizer, lens.final.tolist())
    parts = (lens.tokens, lens.probabilities, lens.final_probabilities, lens.rank)
    readings = []
    for tokens, sure, theirs, rank in zip(
        *map(torch.Tensor.tolist, parts), strict=True
    ):
        said = token_texts(loaded.tokenizer, tokens)
        cells = zip(said, sure, final, theirs, rank, strict=True)
        readings.append([Reading(*cell) for cell in cells])
    return join([lens_view(token_texts(loaded.tokenizer, ids), readings), note])


def experts_of(loaded: Loaded, text: str, chat: bool = False) -> Markup:
    """Which token goes to which experts; a sentence for models that have none."""
    ids, note = shortened(ids_of(loaded, text, chat), MOST_COLUMNS)
    routes = loaded.compute(lambda: expert_routes(loaded.model, ids))
    if not routes:
        return notice(
            "This run has no experts: every token goes through the same feed-forward "
            "part. A recipe with a table [model.experts] trains one that has.",
            "plain",
        )
    routings = [
        Routing(
            route.layer,
            [
                dict(zip(chosen, weights, strict=True))
                for chosen, weights in zip(
                    route.experts.tolist(), route.weights.tolist(), strict=True
                )
            ],
            route.shares.tolist(),
        )
        for route in routes
    ]
    return join([routes_view(token_texts(loaded.tokenizer, ids), routings), note])
