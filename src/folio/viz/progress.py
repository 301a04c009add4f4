"""A training as it goes: loss, gradient norm, rate, speed, and the newest samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from folio.viz.folder import Run
from folio.viz.markup import Markup, join, tag
from folio.viz.page import View, chart
from folio.viz.samples import sample_text
from folio.viz.svg import Series, smoothed

SMALL = (  # key, title, color
    ("grad_norm", "Gradient norm", "gradient"),
    ("lr", "Learning rate", "rate"),
    ("tokens_per_second", "Tokens per second", "speed"),
)
NEWEST = 3  # samples


def progress_view(
    rows: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]], steps: int
) -> Markup:
    """From the lines of metrics.jsonl and samples.jsonl; `steps` it is to have."""
    run = Run(Path(), [dict(row) for row in rows])
    size = (0.0, float(max([steps, *(row["step"] for row in rows)])))
    lines: list[Series] = []
    if (pairs := run.column("loss"))[0]:
        lines += smoothed(Series("train", *pairs))
    if (pairs := run.column("val_loss"))[0]:
        lines.append(Series("validation", *pairs, "validation", dots=True))
    parts = [chart("loss", "Loss", [View(lines, x_range=size)])] if lines else []
    small = []
    for key, title, color in SMALL:
        if (pairs := run.column(key))[0]:
            view = View([Series(title.lower(), *pairs, color)], x_range=size)
            small.append(chart(key, title, [view], small=True))
    parts.append(tag("div", *small, class_="charts") if small else None)
    parts.append(_newest(samples))
    return join(parts)


def _newest(samples: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not samples:
        return None
    step = samples[-1]["step"]
    shown = [sample_text(s) for s in samples[-NEWEST:] if s["step"] == step]
    title = tag("h3", f"What it writes at step {step:,}")
    return tag("div", title, *shown, class_="written")
