"""One quantity of every layer in one chart: `grad_norm.blocks.0` and its like."""

from __future__ import annotations

import re
from dataclasses import replace

from folio.viz.folder import Run
from folio.viz.markup import Markup
from folio.viz.names import readable, title_of
from folio.viz.page import View, anchor, chart
from folio.viz.svg import COLORS_OF_RUNS, Series, smoothed


def layer_keys(keys: list[str], family: str) -> list[str]:
    """The keys of a family, layers in the order of their numbers.

    >>> layer_keys(["lr", "load.blocks.10", "load.blocks.9"], "load")
    ['load.blocks.9', 'load.blocks.10']
    """
    own = [key for key in keys if key.startswith(family + ".")]
    return sorted(own, key=lambda key: [int(n) for n in re.findall(r"\d+", key)])


def is_layered(run: Run, family: str) -> bool:
    """Whether the parts of a family are layers, and not tasks or kinds."""
    return any(key.startswith(f"{family}.blocks.") for key in run.extra_keys())


def layer_chart(run: Run, family: str) -> Markup:
    """A line for each layer, smoothed, over the steps of the run."""
    lines, remarks = [], set()
    for place, key in enumerate(layer_keys(run.extra_keys(), family)):
        color = f"run-{place % COLORS_OF_RUNS}"
        *raw, line = smoothed(Series(readable(key), *run.column(key), color))
        lines.append(replace(line, dots=False, dashed=place >= COLORS_OF_RUNS))
        remarks |= {"smoothed"} if raw else set()
    log = family == "grad_norm"
    view = View(lines, y_log=log, x_range=(0.0, float(run.rows[-1]["step"]) or 1.0))
    title = title_of(readable(family)) + ", layer by layer"
    caption = ", ".join([*remarks, *(["logarithmic"] if log else [])])
    return chart(
        anchor(f"{family} layers"), title, [view], caption=caption, link="step"
    )
