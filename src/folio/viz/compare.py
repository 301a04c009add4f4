"""Several runs on one page: their curves, their numbers and what set them apart.

Runs whose recipes differ only in their seed are one group: drawn as their mean in a
band from the lowest to the highest. One seed proves little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from folio.files import write_atomically
from folio.viz.groups import (
    NUMBERS,
    RISING,
    Group,
    differences,
    group_runs,
    read_runs,
)
from folio.viz.markup import Markup, join, tag
from folio.viz.names import readable, title_of
from folio.viz.numerals import compact, digits, duration
from folio.viz.page import (
    Section,
    View,
    chart,
    headline,
    page,
    swatch,
    table,
)
from folio.viz.samples import group as group_samples
from folio.viz.samples import prompt_title, sample_text
from folio.viz.svg import Series, smoothed
from folio.viz.tuned import stage_of

CLOCKS = ("step", "tokens", "pairs", "seconds")


def write_compare(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Draw the page that compares `runs` to the file `out` and return its path."""
    groups = group_runs(read_runs(runs))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(out, render_compare(groups))


def render_compare(groups: Sequence[Group]) -> str:
    """The page as a string; the same runs give the same string."""
    different = differences(groups)
    sections = [_curves(groups, different), _numbers(groups)]
    sections += [_recipes(groups, different), _samples(groups)]
    numbers = _headline(groups, different)
    count = sum(len(group.runs) for group in groups)
    names = " · ".join(group.name for group in groups)
    return page(
        title=names if len(names) <= 40 else f"{len(groups)} recipes compared",
        eyebrow=f"Comparison of {count} run{'s' if count > 1 else ''}",
        summary=_summary(groups, different),
        opening=headline(numbers) if numbers else Markup(""),
        sections=[section for section in sections if section],
    )


def score_of(groups: Sequence[Group], different: dict[str, list]) -> tuple[str, str]:
    """What to judge by, key and name; none where nothing can be compared.

    Losses of different tokens can't, nor can those of different stages.
    """
    for key in RISING:
        if all(group.mean(key) is not None for group in groups):
            return key, SCORES[key]
    if differ_in_stage(groups):
        return "", ""
    if "run.tokenizer.fingerprint" in different:
        return "val_bits_per_byte", "bits per byte"
    return "val_loss", "validation loss"


def differ_in_stage(groups: Sequence[Group]) -> bool:
    return len({stage_of(group.runs[0]) for group in groups}) > 1


SCORES = {
    "sampled_gold": "gold of sampled answers",
    "sampled_accuracy": "share of right sampled answers",
    "sampled_exact": "share of exact sampled answers",
    "val_accuracy": "accuracy on held-out pairs",
}


def _summary(groups: Sequence[Group], different: dict[str, list]) -> str:
    key, name = score_of(groups, different)
    rising = key in RISING
    scored = [(group.mean(key), group) for group in groups]
    scored = [pair for pair in scored if pair[0] is not None]
    scored.sort(key=lambda pair: pair[0], reverse=rising)
    if len(scored) < 2:
        return ""
    (best, first), (second, other) = scored[:2]
    end, side = ("highest", "below") if rising else ("lowest", "above")
    text = (
        f"{first.title} reaches the {end} {name}, {digits(best)}; "
        f"{other.title} stays {digits(abs(second - best), 2)} {side} it."
    )
    return text + ("" if len(first.runs) > 1 else f" {first.name} is one seed only.")


def _headline(
    groups: Sequence[Group], different: dict[str, list]
) -> list[tuple[str, str, str]]:
    """What the first five groups reached."""
    (key, name), shown = score_of(groups, different), []
    for group in groups[:5]:
        score = group.mean(key)
        if score is None:
            continue
        remark = name
        if len(group.runs) > 1:
            low, high = group.ends(key)
            remark = f"{name}, {digits(low)} to {digits(high)}"
        elif seconds := group.mean("seconds"):
            remark = f"{name}, in {duration(seconds)}"
        shown.append((group.title, digits(score), remark))
    return shown


def _curves(groups: Sequence[Group], different: dict) -> Section:
    cut = score_of(groups, different)[0] == "val_bits_per_byte"
    wanted = {key: title_of(name) for key, name in SCORES.items()}
    wanted |= {key: title_of(readable(key)) for key in ("reward", "gold")}
    wanted |= {"kl_sequence": "KL to the parent, nats per answer"}
    wanted |= {"entropy": "Entropy, nats per token"}
    wanted = {key: title for key, title in wanted.items() if _is_shared(groups, key)}
    apart = differ_in_stage(groups)
    wanted |= {} if apart else {"val_loss": "Validation loss"}
    wanted |= {"val_bits_per_byte": "Bits per byte, held out"} if cut else {}
    wanted |= {} if apart else {"loss": "Training loss"}
    charts = [_chart(groups, key, title) for key, title in wanted.items()]
    lead = "A color is a run here, on every chart and in every table."
    if apart:
        lead += (
            " These runs are of different stages, so their losses are not comparable; "
            "what several of them have been measured in is."
        )
    if any(len(group.runs) > 1 for group in groups):
        lead += " Runs that differ only by seed are drawn as mean and range."
    if cut:
        lead += (
            " These runs cut text into different tokens, so their losses are not "
            "comparable; bits per byte are."
        )
    legend = [swatch(group.color, group.title) for group in groups]
    body = join([tag("p", *legend, class_="legend"), *charts])
    return Section("curves", "Curves", body, lead)


def _is_shared(groups: Sequence[Group], key: str) -> bool:
    """Whether several groups have it, and not all of them always the same value.

    Alone, a group is compared with nothing.
    """
    columns = [group.runs[0].column(key)[1] for group in groups]
    having = [column for column in columns if column]
    values = {value for column in having for value in column}
    return len(having) >= min(2, len(groups)) and len(values) > 1


def _chart(groups: Sequence[Group], key: str, title: str) -> Markup | None:
    """One quantity against three clocks, the whole run or its second half."""
    views, clocks = [], []
    for clock in CLOCKS:
        lines = [_group_line(group, key, clock) for group in groups]
        lines = [line for line in lines if line is not None]
        if not lines:
            continue
        number = len(clocks)
        clocks.append(clock)
        middle = max(max(line.x) for line in lines) / 2
        late = [_later(line, middle) for line in lines]
        late = [line for line in late if len(line.y)]
        views.append(View(lines, x_label=clock, choices=(number, 0)))
        views.append(View(late, x_label=clock, choices=(number, 1)))
    if not views:
        return None
    caption = "Smoothed: lines fitted to 2 % of the points on either side."
    return chart(
        key.replace("_", "-"),
        title,
        views,
        caption=caption if key in SMOOTHED else "",
        switches=[clocks, ["whole", "second half"]],
    )


SMOOTHED = ("loss", "reward", "gold", "kl_sequence", "entropy")


def _group_line(group: Group, key: str, clock: str) -> Series | None:
    """The mean of a group with its range, or the one run's line."""
    lines = []
    for run in group.runs:
        x, y = run.column(key, clock)
        if x:
            line = Series(group.name, x, y, group.color, dashed=group.dashed)
            lines.append(smoothed(line)[-1] if key in SMOOTHED else line)
    if not lines:
        return None
    if len(lines) == 1:
        (line,) = lines
        return line
    x, low, mean, high = mean_and_range(lines)
    return Series(
        group.title, x, mean, group.color, False, False, group.dashed, low, high
    )


def mean_and_range(lines: Sequence[Series]) -> Iterator[np.ndarray]:
    """x, lowest, mean and highest of several lines where all of them have values.

    Lines with different x meet on all their places; between its points a line is
    taken as straight.
    """
    points = [
        np.array([p for p in zip(s.x, s.y, strict=True) if math.isfinite(p[1])])
        for s in lines
    ]
    points = [line for line in points if len(line)]
    if not points:
        return np.empty((4, 0))
    start = max(line[0, 0] for line in points)
    end = min(line[-1, 0] for line in points)
    x = np.unique(np.concatenate([line[:, 0] for line in points]))
    x = x[(x >= start) & (x <= end)]
    y = np.stack([np.interp(x, line[:, 0], line[:, 1]) for line in points])
    return x, y.min(axis=0), y.mean(axis=0), y.max(axis=0)


def _later(line: Series, start: float) -> Series:
    """The part from `start` on."""
    keep = np.flatnonzero(np.asarray(line.x, dtype=float) >= start)
    names = [n for n in ("x", "y", "low", "high") if getattr(line, n) is not None]
    cut = {name: np.asarray(getattr(line, name))[keep] for name in names}
    return Series(line.name, color=line.color, dashed=line.dashed, **cut)


def _numbers(groups: Sequence[Group]) -> Section:
    every = [run.results() for group in groups for run in group.runs]
    keys = [key for key in NUMBERS if any(r.get(key) is not None for r in every)]
    rows = []
    for group in groups:
        means = {key: group.mean(key) for key in keys}
        rows.append([swatch(group.color, group.title), *_cells(means, keys)])
        if len(group.runs) > 1:
            for name, run in zip(group.names, group.runs, strict=True):
                member = tag("span", name, class_="member")
                rows.append([member, *_cells(run.results(), keys)])
    columns = ["run", *(COLUMNS.get(key, readable(key)) for key in keys)]
    several = any(len(group.runs) > 1 for group in groups)
    lead = "The first line of a group is the mean over its seeds." if several else ""
    return Section("numbers", "Numbers", table(columns, rows), lead)


def _cells(results: dict[str, Any], keys: Sequence[str]) -> list[Any]:
    def cell(key: str) -> Any:
        value, show = results.get(key), SHOWS.get(key, digits)
        return None if value is None else tag("span", show(value), class_="number")

    return [cell(key) for key in keys]


def _whole(value: float) -> str:
    return f"{value:,.0f}"


COLUMNS = {
    "val_loss": "validation loss",
    "val_perplexity": "perplexity",
    "val_bits_per_byte": "bits per byte",
    "step": "steps",
    "seconds": "time",
}
SHOWS = {
    "best_step": _whole,
    "parameters": compact,
    "step": _whole,
    "tokens": compact,
    "pairs": compact,
    "seconds": duration,
}


def _recipes(groups: Sequence[Group], different: dict[str, list]) -> Section | None:
    if len(groups) < 2:
        return None
    if not different:
        lead = "Their recipes and machines are the same."
        return Section("recipes", "Differences", Markup(""), lead)
    columns = ["", *(swatch(group.color, group.name) for group in groups)]
    rows = [[key, *map(_setting, values)] for key, values in different.items()]
    lead = "Only what differs; everything else in their recipes is the same."
    return Section("recipes", "Differences", table(columns, rows), lead)


def _setting(value: Any) -> Any:
    """A value of a recipe as one writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _samples(groups: Sequence[Group]) -> Section | None:
    """The last answer of every group (of its first run) to every prompt."""
    answers: dict[tuple, dict[int, Any]] = {}
    for place, group in enumerate(groups):
        for ask, samples in group_samples(group.runs[0].samples).items():
            answers.setdefault(ask, {})[place] = samples[-1]
    if not answers:
        return None
    blocks = []
    for index, (ask, given) in enumerate(answers.items()):
        columns = [_answer(groups[place], sample) for place, sample in given.items()]
        body = tag("div", *columns, class_="answers")
        title = tag("summary", prompt_title(*ask))
        blocks.append(tag("details", title, body, open=index < 3, class_="asked"))
    lead = "What each wrote after its last step, to the same prompts."
    return Section("samples", "Samples", join(blocks), lead)


def _answer(group: Group, sample: dict[str, Any]) -> Markup:
    step = tag("small", f" step {sample['step']:,}")
    title = tag("h4", swatch(group.color, group.name), step)
    return tag("div", title, sample_text(sample))
