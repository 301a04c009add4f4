"""Charts that hold several logged quantities, because they answer one question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from folio.viz.folder import Run, is_held_out
from folio.viz.markup import Markup, join, tag
from folio.viz.names import readable
from folio.viz.numerals import digits
from folio.viz.page import Section, View, anchor, chart
from folio.viz.svg import COLORS_OF_RUNS, Series, smoothed

STEADY = 1e-6  # relative spread below which a quantity hasn't changed
DOTTED = 60  # points, up to which each measurement gets a dot


@dataclass(frozen=True)
class Panel:
    """One chart: keys of the log, and what their lines are called on it."""

    title: str
    lines: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True)
class Family:
    """One chart with a line for each part: of `val_accuracy.style`, the style.

    `prefixes` maps the names of a switch to what the keys begin with.
    """

    title: str
    prefixes: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True)
class Group:
    """A section: the first panel is large, the others are small.

    `needs` is a key without which the section isn't drawn.
    """

    key: str
    title: str
    lead: str
    panels: tuple[Panel, ...]
    families: tuple[Family, ...] = field(default=())
    needs: str = ""

    def keys(self, run: Run) -> list[str]:
        """What it draws of all that is logged."""
        logged = run.number_keys()
        if self.needs and self.needs not in logged:
            return []
        wanted = {key for panel in self.panels for key in panel.lines}
        prefixes = [p for family in self.families for p in family.prefixes.values()]
        return [key for key in logged if key in wanted or _family_of(key) in prefixes]


def group_section(run: Run, group: Group, numbers: Markup | None = None) -> Section:
    """The section of a group that has something to show.

    `numbers` is a table that makes a list of what never changed superfluous.
    """
    first, *others = group.panels
    small = [panel_chart(run, panel, small=True) for panel in others]
    body = [
        panel_chart(run, first),
        *(family_chart(run, family) for family in group.families),
        tag("div", *small, class_="charts") if any(small) else None,
        numbers or constants(run, undrawn_keys(run, group)),
    ]
    return Section(group.key, group.title, join(body), group.lead)


# ---- one chart -----------------------------------------------------------------------


def undrawn_keys(run: Run, group: Group) -> list[str]:
    """What is logged of the charts that would say nothing."""
    drawn = [
        key
        for panel in group.panels
        if any(not is_steady(run.column(key)[1]) for key in panel.lines)
        for key in panel.lines
    ]
    return [key for key in group.keys(run) if key not in drawn]


def panel_chart(run: Run, panel: Panel, small: bool = False) -> Markup | None:
    """The panel's lines over the steps; None if nothing among them ever changes."""
    lines, same = distinct(logged_lines(run, panel.lines))
    if all(is_steady(line.y) for line in lines):
        return None
    notes = [panel.note, *(f"{a}: the same as {b}." for a, b in same)]
    pale = len(lines) <= (1 if small else 3)
    drawn = [part for line in lines for part in _softened(line, pale)]
    return _chart(run, panel.title, [View(drawn)], lines, notes, small=small)


def family_chart(run: Run, family: Family) -> Markup | None:
    """A line for each part of the family, and a switch if it has several prefixes."""
    found = {
        name: logged_lines(run, parts_of(run, prefix))
        for name, prefix in family.prefixes.items()
    }
    found = {
        name: lines
        for name, lines in found.items()
        if not all(is_steady(line.y) for line in lines)
    }
    if not found:
        return None
    views = []
    for place, lines in enumerate(found.values()):
        drawn = [part for line in lines for part in _softened(line, False)]
        choices = (place,) if len(found) > 1 else ()
        views.append(View(drawn, choices=choices))
    switches = [list(found)] if len(found) > 1 else []
    lines = max(found.values(), key=len)
    return _chart(run, family.title, views, lines, [family.note], switches=switches)


def _chart(run, title, views, lines, notes, *, switches=(), small=False) -> Markup:
    last = float(run.rows[-1]["step"])
    views = [replace(view, x_range=(0.0, last) if last else None) for view in views]
    return chart(
        anchor(title),
        title,
        views,
        caption=" ".join(note for note in notes if note),
        switches=switches,
        small=small,
        link="step",
        legend=[(line.color, line.name) for line in lines] if len(lines) > 1 else (),
    )


# ---- lines ---------------------------------------------------------------------------


def logged_lines(run: Run, names: Mapping[str, str]) -> list[Series]:
    """The quantities that were logged; each keeps its color if others are missing."""
    lines = []
    for place, (key, name) in enumerate(names.items()):
        steps, values = run.column(key)
        if values:
            dots = is_held_out(key) and len(values) <= DOTTED
            color = f"run-{place % COLORS_OF_RUNS}"
            dashed = place >= COLORS_OF_RUNS
            lines.append(Series(name, steps, values, color, dots=dots, dashed=dashed))
    return lines


def parts_of(run: Run, prefix: str) -> dict[str, str]:
    """The keys of a family, and the names of its parts."""
    keys = [key for key in run.number_keys() if _family_of(key) == prefix]
    return {key: readable(key) for key in keys}


def distinct(lines: Iterable[Series]) -> tuple[list[Series], list[tuple[str, str]]]:
    """Without the lines that lie on an earlier one; those, with the earlier's name.

    >>> first, second = Series("reward", [1, 2], [3, 4]), Series("gold", [1, 2], [3, 4])
    >>> distinct([first, second])[1]
    [('gold', 'reward')]
    """
    kept: list[Series] = []
    same = []
    for line in lines:
        twin = next((one for one in kept if coincide(one, line)), None)
        if twin is None:
            kept.append(line)
        else:
            same.append((line.name, twin.name))
    return kept, same


def coincide(one: Series, other: Series) -> bool:
    """Whether no eye could tell them apart."""
    same = len(one.x) == len(other.x) and one.x == other.x
    return same and np.allclose(one.y, other.y, rtol=1e-4, atol=1e-9, equal_nan=True)


def is_steady(values: list[float]) -> bool:
    """Whether a chart of these would say nothing.

    >>> is_steady([0.0, 0.0, 0.0]), is_steady([3e-6, 4e-6]), is_steady([0.7])
    (True, False, True)
    """
    if not values:
        return True
    low, high = min(values), max(values)
    return high - low <= STEADY * max(abs(low), abs(high))


def constants(run: Run, keys: Iterable[str]) -> Markup | None:
    """What a chart would say nothing about, in one line."""
    columns = {key: run.column(key)[1] for key in keys}
    found = [
        f"{readable(key)} {_value(values[-1])}"
        for key, values in columns.items()
        if values and is_steady(values)
    ]
    if not found:
        return None
    once = all(len(columns[key]) == 1 for key in columns)
    word = "Logged once" if once else "Never changed"
    return tag("p", f"{word}: {', '.join(found)}.", class_="quiet")


def _value(value: float) -> str:
    return f"{value:g}" if float(value).is_integer() else digits(value)


def _softened(line: Series, pale: bool) -> list[Series]:
    """Held-out points as they are; training smoothed, over its points if `pale`."""
    if line.dots:
        return [line]
    *raw, soft = smoothed(line)
    return [*(raw if pale else []), soft]


def _family_of(key: str) -> str:
    family, dot, _ = key.partition(".")
    return family if dot else ""
