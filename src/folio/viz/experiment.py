"""The page and the figure of an experiment, drawn from its record.

`folio.stages.findings` says what a record holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from folio.viz.color import paint, resolve
from folio.viz.dots import Dots, dot_plot, height_of
from folio.viz.experts import MEANING, Load, load_view
from folio.viz.markup import Markup, join, tag
from folio.viz.names import readable, title_of
from folio.viz.numerals import compact, digits
from folio.viz.page import Section, View, anchor, chart, headline, page, swatch, table
from folio.viz.svg import COLORS_OF_RUNS, Series, line_chart

Record = Mapping[str, Any]


def color_of(record: Record, variant: str) -> str:
    """A variant has one color in all figures."""
    return f"run-{list(record['variants']).index(variant) % COLORS_OF_RUNS}"


def seeds_of(record: Record) -> str:
    count = len(record["seeds"])
    return "one seed" if count == 1 else f"{count} seeds"


def render_experiment(record: Record) -> str:
    """The page as a string; the same record gives the same string."""
    families = dict.fromkeys(k.split(".")[0] for k in record["curves"] if "." in k)
    sections = [
        _numbers(record),
        _curves(record),
        _differences(record),
        _cache(record),
        *(_family(record, family) for family in families),
        _loads(record),
        _facts(record),
    ]
    return page(
        title=record["title"],
        eyebrow=f"Experiment · {len(record['variants'])} variants · {seeds_of(record)}",
        summary=record["question"],
        opening=headline(_headline(record)),
        sections=[section for section in sections if section],
    )


def _headline(record: Record) -> list[tuple[str, str, str]]:
    numbers, metric = [], readable(record["metric"])
    for name, found in list(record["variants"].items())[:5]:
        error = found["standard_error"]
        remark = metric if error is None else f"{metric}, ± {digits(error, 2)}"
        numbers.append((name, digits(found["mean"]), remark))
    return numbers


# ---- numbers -------------------------------------------------------------------------


def _numbers(record: Record) -> Section:
    metric, equal = readable(record["metric"]), record["equal"]
    lead = (
        f"{title_of(metric)} after {record['tokens']:,} tokens: mean over "
        f"{seeds_of(record)} and its standard error. Differences are taken between "
        "runs of equal seeds, which have read the same text."
    )
    if equal != "nothing":
        lead += f" All have equally many {equal}, within 2 %."
    lead += f" {record['note']}" if record["note"] else ""
    columns = ["variant", metric, "± error", "against the first", "95 % within"]
    columns += ["verdict", "parameters", "of them active", "cache, bytes per token"]
    rows = [_row(record, name) for name in record["variants"]]
    body = join([table(columns, rows), dot_plot(dots_of(record), metric)])
    return Section("numbers", "Numbers", body, lead)


def _row(record: Record, name: str) -> list[Any]:
    found = record["variants"][name]
    gap = found.get("difference", {})
    return [
        swatch(color_of(record, name), name),
        _cell(found["mean"], lambda v: f"{v:.4f}"),
        _cell(found["standard_error"], lambda v: f"{v:.4f}"),
        _cell(gap.get("mean"), lambda v: f"{v:+.4f}"),
        _cell(gap.get("within"), lambda v: f"{v:.4f}"),
        gap.get("verdict"),
        _cell(found["parameters"], compact),
        _cell(found["active_parameters"], compact),
        _cell(found["cache_bytes_per_token"], lambda v: f"{v:,.0f}"),
    ]


def _cell(value: float | None, show: Callable[[float], str]) -> Markup | None:
    return None if value is None else tag("span", show(value), class_="number")


def dots_of(record: Record) -> list[Dots]:
    """Each variant's final values, for `dot_plot`."""
    return [
        Dots(
            name,
            found["values"],
            found["mean"],
            found["standard_error"],
            color_of(record, name),
        )
        for name, found in record["variants"].items()
    ]


# ---- curves --------------------------------------------------------------------------


def lines_of(record: Record, curves: Mapping[str, Any]) -> list[Series]:
    """Each variant's mean in a band from its lowest to its highest seed."""
    return [
        Series(
            name,
            curve["x"],
            curve["mean"],
            color_of(record, name),
            low=curve["low"],
            high=curve["high"],
        )
        for name, curve in curves.items()
        if curve["x"]
    ]


def _later(curves: Mapping[str, Any]) -> dict[str, Any]:
    """The second half of every curve."""
    late = {}
    for name, curve in curves.items():
        start = sum(step < curve["x"][-1] / 2 for step in curve["x"])
        late[name] = {key: values[start:] for key, values in curve.items()}
    return late


def _legend(record: Record) -> Markup:
    names = [swatch(color_of(record, name), name) for name in record["variants"]]
    return tag("p", *names, class_="legend")


def _curves(record: Record) -> Section:
    lead = "A color is a variant here, on every chart and in every table."
    if len(record["seeds"]) > 1:
        lead += (
            f" Lines are means over {seeds_of(record)}; bands reach from the lowest "
            "seed to the highest."
        )
    charts = []
    for key, curves in record["curves"].items():
        if "." in key:
            continue
        views = [
            View(lines_of(record, curves), choices=(0,)),
            View(lines_of(record, _later(curves)), choices=(1,)),
        ]
        switches = [["whole", "second half"]]
        title = title_of(readable(key))
        charts.append(chart(anchor(key), title, views, switches=switches))
    return Section("curves", "Curves", join([_legend(record), *charts]), lead)


def _differences(record: Record) -> Section:
    first, metric = next(iter(record["variants"])), readable(record["metric"])
    lead = (
        f"How far the {metric} lies above that of {first} with the same seed; below "
        "zero is better."
    )
    view = View(lines_of(record, record["differences"]))
    body = chart("difference", f"{title_of(metric)} above {first}", [view])
    return Section("differences", "Differences", body, lead)


def _cache(record: Record) -> Section | None:
    """Loss against the size of the cache, if that is what differs."""
    sizes = [found["cache_bytes_per_token"] for found in record["variants"].values()]
    if len(set(sizes)) == 1:
        return None
    lead = "What a smaller cache costs. Bars are standard errors over the seeds."
    body = chart("cache", f"{title_of(readable(record['metric']))} and cache", [])
    return Section("cache", "Cache", join([body, tradeoff(record)]), lead)


def tradeoff(record: Record) -> Markup:
    """A bar for each variant: its cache to the right, the metric upwards."""
    lines = []
    for row in dots_of(record):
        size = record["variants"][row.name]["cache_bytes_per_token"]
        error = row.error or 0.0
        ends = [row.mean - error, row.mean + error, row.mean]
        lines.append(Series(row.name, [size] * 3, ends, row.color, dots=True))
    sizes = [line.x[0] for line in lines]
    return line_chart(
        lines,
        x_label="bytes of keys and values per token, fp32, logarithmic",
        x_log=True,
        x_range=(min(sizes) / 1.3, max(sizes) * 1.3),
        description="loss against the size of the cache",
    )


def _family(record: Record, family: str) -> Section:
    """Small charts of one quantity, layer by layer."""
    charts = []
    for key, curves in record["curves"].items():
        if key.startswith(family + "."):
            view = View(lines_of(record, curves), y_log=family == "grad_norm")
            charts.append(chart(anchor(key), readable(key), [view], small=True))
    body = join([_legend(record), tag("div", *charts, class_="charts")])
    title = title_of(readable(family))
    lead = "Layer by layer" + (", logarithmic." if family == "grad_norm" else ".")
    return Section(anchor(family), title, body, lead)


def _loads(record: Record) -> Section | None:
    if not record["loads"]:
        return None
    loads = {
        name: Load(load["layers"], load["steps"], np.array(load["shares"]))
        for name, load in record["loads"].items()
    }
    lead = f"{MEANING} Of seed {record['seeds'][0]}."
    return Section("load", "Load of the experts over time", load_view(loads), lead)


# ---- the record itself, and a figure that stands alone ------------------------------


def _facts(record: Record) -> Section:
    rows = []
    for key in ("command", "date", "commit", "machine", "versions", "seeds", "tokens"):
        value = record[key]
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {each}" for name, each in value.items())
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        rows.append([key, value])
    return Section("record", "Record", table(["", ""], rows))


def figure(record: Record) -> str:
    """The comparison in one drawing: curves to the left, final values to the right."""
    metric = record["metric"]
    lines = lines_of(record, record["curves"][metric])
    name, rows = readable(metric), dots_of(record)
    curves = line_chart(lines, width=560, height=300, y_label=name)
    height = max(300, height_of(rows))
    whole = tag(
        "svg",
        tag("title", record["title"]),
        tag("rect", width=1000, height=height, fill=paint("paper")),
        tag("svg", curves, x=0, y=0, width=560, height=300),
        tag(
            "svg",
            dot_plot(rows, name, width=420),
            x=570,
            y=max(0, 150 - height_of(rows) // 2),
            width=420,
            height=height_of(rows),
        ),
        viewBox=f"0 0 1000 {height}",
        font_family="system-ui, sans-serif",
    )
    return resolve(whole) + "\n"
