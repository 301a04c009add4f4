"""Several runs on one page: their curves, their numbers and what set them apart.

Runs whose recipes differ only in their seed are one group: drawn as their mean in a
band from the lowest to the highest. One seed proves little.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from folio.config import UserError
from folio.viz.folder import Run, flatten, read_run
from folio.viz.markup import Markup, join, tag
from folio.viz.numerals import compact, digits, duration
from folio.viz.page import (
    Section,
    View,
    chart,
    headline,
    page,
    swatch,
    table,
    write_atomically,
)
from folio.viz.samples import group as group_samples
from folio.viz.samples import prompt_title, sample_text
from folio.viz.svg import COLORS_OF_RUNS, Series, smoothed

CLOCKS = {"step": "step", "tokens": "tokens", "seconds": "seconds"}
NUMBERS = (
    "val_loss",
    "val_perplexity",
    "val_bits_per_byte",
    "best_step",
    "loss",
    "parameters",
    "step",
    "tokens",
    "seconds",
)
# Facts of run.json that make two runs less comparable when they differ.
FACTS = (
    ("data", "fingerprint"),
    ("tokenizer", "fingerprint"),
    ("machine",),
    ("folio",),
    ("torch",),
)


@dataclass(frozen=True)
class Group:
    """Runs that differ only by seed, the order they were given in, and their color."""

    name: str
    runs: list[Run]
    names: list[str]
    color: str
    dashed: bool = False

    @property
    def title(self) -> str:
        count = len(self.runs)
        return self.name if count == 1 else f"{self.name} ({count} seeds)"

    def mean(self, key: str) -> float | None:
        """The mean of one result over the seeds; None where any run lacks it."""
        values = [run.results().get(key) for run in self.runs]
        if len(set(values)) == 1:
            return values[0]
        return None if None in values else sum(values) / len(values)

    def ends(self, key: str) -> tuple[float, float]:
        values = [run.results()[key] for run in self.runs]
        return min(values), max(values)


def write_compare(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Draw the page that compares `runs` to the file `out` and return its path."""
    groups = group_runs(read_runs(runs))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(out, render_compare(groups))


def read_runs(paths: Sequence[str | Path]) -> list[Run]:
    if not paths:
        raise UserError("nothing to compare: name one run folder or more")
    seen = set()
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            raise UserError(f"{path}: given twice; name every run once")
        seen.add(real)
    return [read_run(path) for path in paths]


def is_seed(key: str) -> bool:
    """Keys in which repetitions of one experiment may differ.

    >>> is_seed("seed"), is_seed("data.shuffle_seed"), is_seed("data.path")
    (True, True, False)
    """
    last = key.rsplit(".", 1)[-1]
    return last == "seed" or last.endswith("_seed") or key in ("run", "name")


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Gather runs with the same recipe but for the seed, in order of appearance.

    A run without a recipe stays alone: nobody knows what it shares with others.
    """
    gathered: dict[Any, list[int]] = {}
    for index, run in enumerate(runs):
        flat = flatten(run.recipe)
        same = repr(sorted((k, v) for k, v in flat.items() if not is_seed(k)))
        gathered.setdefault(same if flat else index, []).append(index)
    names = distinct_names(runs)
    groups = []
    for place, members in enumerate(gathered.values()):
        own = [names[index] for index in members]
        groups.append(
            Group(
                name=common_name(own),
                runs=[runs[index] for index in members],
                names=own,
                color=f"run-{place % COLORS_OF_RUNS}",
                dashed=place >= COLORS_OF_RUNS,
            )
        )
    return groups


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Folder names; with the folder above where two are the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{run.path.resolve().parent.name}/{name}"
        for run, name in zip(runs, names, strict=True)
    ]


def common_name(names: Sequence[str]) -> str:
    """What the names of a group share, without a dangling "-seed".

    >>> common_name(["tiny-seed1", "tiny-seed2"]), common_name(["a", "b"])
    ('tiny', 'a')
    """
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in same)
    shared = re.sub(r"[-_. ]*(seed|s)?[-_. ]*[0-9]*$", "", shared)
    return shared or names[0]


def compare_table(runs: Sequence[str | Path]) -> list[dict[str, Any]]:
    """The final numbers for a terminal: one row per run, all with the same keys.

    Behind the seeds of a group comes a row with their mean; `val_loss_range` is how
    far its seeds are apart. Recipe keys that differ follow under their dotted names.
    """
    groups = group_runs(read_runs(runs))
    different, rows = differences(groups), []
    for place, group in enumerate(groups):
        recipe = {key: values[place] for key, values in different.items()}
        for name, run in zip(group.names, group.runs, strict=True):
            results = run.results()
            numbers = {key: results.get(key) for key in NUMBERS}
            rows.append({"run": name} | numbers | {"val_loss_range": None} | recipe)
        if len(group.runs) > 1:
            means = {key: group.mean(key) for key in NUMBERS}
            low, high = group.ends("val_loss") if means["val_loss"] else (0, 0)
            title = f"{group.name}, mean of {len(group.runs)}"
            rows.append(
                {"run": title} | means | {"val_loss_range": high - low} | recipe
            )
    return rows


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Keys of recipes, and facts of runs, that aren't the same in all groups."""
    columns = []
    for group in groups:
        run = group.runs[0]
        flat = {k: v for k, v in flatten(run.recipe).items() if not is_seed(k)}
        facts = {".".join(("run", *fact)): run.get(*fact) for fact in FACTS}
        columns.append(flat | facts)
    keys = dict.fromkeys(key for column in columns for key in column)
    table = {key: [column.get(key) for column in columns] for key in keys}
    return {k: v for k, v in table.items() if any(value != v[0] for value in v)}


def render_compare(groups: Sequence[Group]) -> str:
    """The page as a string; the same runs give the same string."""
    different = differences(groups)
    sections = [_curves(groups, different), _numbers(groups)]
    sections += [_recipes(groups, different), _samples(groups)]
    count = sum(len(group.runs) for group in groups)
    return page(
        title=" · ".join(group.name for group in groups[:3])
        + (f" and {len(groups) - 3} more" if len(groups) > 3 else ""),
        eyebrow=f"Comparison of {count} run{'s' if count > 1 else ''}",
        summary=_summary(groups),
        opening=headline(_headline(groups)),
        sections=[section for section in sections if section],
    )


def _summary(groups: Sequence[Group]) -> str:
    scored = [(group.mean("val_loss"), group) for group in groups]
    scored = sorted(
        (pair for pair in scored if pair[0] is not None), key=lambda p: p[0]
    )
    if len(scored) < 2:
        return ""
    (best, first), (second, other) = scored[:2]
    text = (
        f"{first.title} ends lowest, at a validation loss of {digits(best)}; "
        f"{other.title} follows {digits(second - best, 2)} above it."
    )
    return text + ("" if len(first.runs) > 1 else " One seed each says little.")


def _headline(groups: Sequence[Group]) -> list[tuple[str, str, str]]:
    """The final validation loss of the first five groups."""
    shown = []
    for group in groups[:5]:
        loss = group.mean("val_loss")
        if loss is None:
            continue
        seconds, remark = group.mean("seconds"), ""
        if len(group.runs) > 1:
            low, high = group.ends("val_loss")
            remark = f"{digits(low)} to {digits(high)}"
        elif seconds:
            remark = f"in {duration(seconds)}"
        shown.append((group.title, digits(loss), remark))
    return shown


def _curves(groups: Sequence[Group], different: dict) -> Section:
    cut = "run.tokenizer.fingerprint" in different
    wanted = [("val_loss", "Validation loss")]
    wanted += [("val_bits_per_byte", "Bits per byte, held out")] if cut else []
    wanted += [("loss", "Training loss")]
    charts = [_chart(groups, key, title) for key, title in wanted]
    lead = "A color is a run here, on every chart and in every table."
    if any(len(group.runs) > 1 for group in groups):
        lead += " Runs that differ only by seed are drawn as mean and range."
    if cut:
        lead += (
            " These runs cut text into different tokens, so their losses are not "
            "comparable; bits per byte are."
        )
    return Section("curves", "Curves", join(charts), lead)


def _chart(groups: Sequence[Group], key: str, title: str) -> Markup | None:
    """One quantity against three clocks, the whole run or its second half."""
    views = []
    for number, (clock, name) in enumerate(CLOCKS.items()):
        lines = [_group_line(group, key, clock) for group in groups]
        lines = [line for line in lines if line is not None]
        if not lines:
            continue
        middle = max(max(line.x) for line in lines) / 2
        late = [_later(line, middle) for line in lines]
        late = [line for line in late if len(line.y)]
        views.append(View(lines, x_label=name, choices=(number, 0)))
        views.append(View(late, x_label=name, choices=(number, 1)))
    if not views:
        return None
    caption = "Smoothed: lines fitted to 2 % of the points on either side."
    return chart(
        key.replace("_", "-"),
        title,
        views,
        caption=caption if key == "loss" else "",
        switches=[list(CLOCKS), ["whole", "second half"]],
    )


def _group_line(group: Group, key: str, clock: str) -> Series | None:
    """The mean of a group with its range, or the one run's line."""
    lines = []
    for run in group.runs:
        x, y = run.column(key, clock)
        if x:
            line = Series(group.title, x, y, group.color, dashed=group.dashed)
            lines.append(smoothed(line)[-1] if key == "loss" else line)
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
    columns = ["run", "validation loss", "perplexity", "bits per byte", "best step"]
    columns += ["training loss", "parameters", "steps", "tokens", "time"]
    rows = []
    for group in groups:
        means = {key: group.mean(key) for key in NUMBERS}
        rows.append([swatch(group.color, group.title), *_cells(means)])
        if len(group.runs) > 1:
            for name, run in zip(group.names, group.runs, strict=True):
                rows.append(
                    [tag("span", name, class_="member"), *_cells(run.results())]
                )
    several = any(len(group.runs) > 1 for group in groups)
    lead = "The first line of a group is the mean over its seeds." if several else ""
    return Section("numbers", "Numbers", table(columns, rows), lead)


def _cells(results: dict[str, Any]) -> list[Any]:
    def cell(key: str, show) -> Any:
        value = results.get(key)
        return None if value is None else tag("span", show(value), class_="number")

    shows = (
        digits,
        digits,
        digits,
        compact,
        digits,
        compact,
        compact,
        compact,
        duration,
    )
    return [cell(key, show) for key, show in zip(NUMBERS, shows, strict=True)]


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
