"""Figures of the chapter on sampling."""

from __future__ import annotations

import torch
from shapes import caption, grid, picture

from folio.infer.sampling import Sampling, adjust
from folio.viz.markup import Markup
from folio.viz.svg import label

WORDS = ("mat", "sofa", "roof", "moon")
CHANCES = (0.5, 0.3, 0.15, 0.05)
SETTINGS = {
    "as the model says": Sampling(),
    "temperature 1/2": Sampling(temperature=0.5),
    "temperature 2": Sampling(temperature=2.0),
    "top-k, k = 2": Sampling(top_k=2),
    "top-p, p = 0.9": Sampling(top_p=0.9),
}


def settings() -> Markup:
    """What each setting makes of the same four chances."""
    logits = torch.tensor([CHANCES]).log()
    parts = [caption(word, 175 + 64 * i, 18) for i, word in enumerate(WORDS)]
    for row, (name, sampling) in enumerate(SETTINGS.items()):
        y = 30 + 38 * row
        shares = adjust(logits, sampling).softmax(-1)[0].tolist()
        texts = [f"{p:.2f}" if p else "–" for p in shares]
        parts.append(label(name, 134, y + 18, "end", "ink"))
        cells = {"color": "gradient", "cell": (64, 28), "shares": [shares]}
        parts.append(grid(143, y, [texts], **cells))
    return picture(410, 222, *parts, narrow=True)
