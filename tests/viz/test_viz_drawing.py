"""Colors, escaping, scales and charts."""

import doctest
import importlib
import itertools
import json
import math
import pkgutil
import xml.etree.ElementTree as xml

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import folio.viz
from folio.viz import color
from folio.viz.markup import data_block, escape, tag
from folio.viz.scale import (
    Scale,
    fit,
    log_ticks,
    nice_ticks,
    smooth,
    subsample,
    tick_labels,
)
from folio.viz.svg import Series, bar_chart, line_chart, smoothed, spread

MODULES = [found.name for found in pkgutil.iter_modules(folio.viz.__path__)]
steady = settings(derandomize=True, max_examples=150, deadline=None)


@pytest.mark.parametrize("name", MODULES)
def test_worked_examples(name):
    result = doctest.testmod(importlib.import_module(f"folio.viz.{name}"))
    assert result.failed == 0


# Colors


def luminance(value: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [c / 255 for c in color.channels(value)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", color.THEMES)
def test_contrast(theme):
    colors = color.palette(theme)
    text = ["ink", "quiet", "validation", "train", "warning"]
    lines = ["rate", "gradient", "speed", "other", "good"]
    lines += [f"run-{index}" for index in range(len(color.RUNS))]
    for name in text:
        assert contrast(colors[name], colors["paper"]) >= 4.5, name
    for name in lines:
        assert contrast(colors[name], colors["paper"]) >= 3, name
    for index in range(len(color.TOKENS)):
        assert contrast(colors["ink"], colors[f"token-{index}"]) >= 4.5


# Viénot, Brettel and Mollon 1999: linear RGB as protanopes and deuteranopes see it.
PROTAN = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
DEUTAN = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]


def as_lab(value: str, sight) -> np.ndarray:
    """CIE L*a*b* of a color as somebody with that sight sees it."""
    part = np.array(color.channels(value)) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(sight) @ linear, 0, 1)
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", color.THEMES)
@pytest.mark.parametrize("sight", [np.eye(3), PROTAN, DEUTAN])
def test_meanings_differ_for_every_sight(theme, sight):
    """Just noticeable is a distance of 2.3; lines need more."""
    colors = color.palette(theme)
    names = ["train", "validation", "rate", "gradient"]
    pairs = list(itertools.combinations(names, 2))
    names = [f"run-{index}" for index in range(len(color.RUNS))]
    for one, other in [*pairs, *itertools.combinations(names, 2)]:
        apart = np.linalg.norm(
            as_lab(colors[one], sight) - as_lab(colors[other], sight)
        )
        assert apart >= 12, (one, other, apart)


@pytest.mark.parametrize("theme", color.THEMES)
def test_attention_ramp_leaves_the_paper_steadily(theme):
    colors = color.palette(theme)
    steps = [luminance(colors[f"attention-{n}"]) for n in range(color.LEVELS)]
    order = sorted(steps, reverse=theme == "light")
    assert steps == order
    assert len(set(steps)) == color.LEVELS


def test_resolve_leaves_no_variable():
    drawing = line_chart([Series("train", [0, 1], [2, 1])])
    alone = color.resolve(drawing, "dark")
    assert "var(" not in alone
    assert xml.fromstring(alone).tag == "{http://www.w3.org/2000/svg}svg"


# Escaping


def test_everything_is_escaped_but_markup():
    element = tag("p", "<script>", tag("b", "&"), title='"><script>')
    assert "<script>" not in element
    assert xml.fromstring(element).attrib == {"title": '"><script>'}


@steady
@given(st.text(st.characters(), max_size=40))
def test_any_text_survives_as_xml(text):
    """All of Unicode, control characters and lone surrogates included."""
    element = tag("p", text, title=text)
    element.encode("utf-8")
    back = xml.fromstring(element).text or ""
    assert len(back) == len(text)


def test_data_cannot_close_its_block():
    value = ["</script><script>alert(1)</script>", "<!--", "\ud800"]
    block = data_block(value)
    assert block.count("<") == 2
    assert json.loads(block[block.index(">") + 1 : -len("</script>")]) == value


def test_escape_is_not_doubled():
    assert escape(escape("<")) == "&lt;"


# Ticks and scales

reals = st.floats(-1e9, 1e9, allow_nan=False)


@steady
@given(reals, st.floats(1e-6, 1e9))
def test_ticks_are_few_round_and_inside(low, size):
    high = low + size
    if not size > 1e-9 * max(abs(low), abs(high)):
        return
    ticks = nice_ticks(low, high)
    room = 1e-6 * size
    assert 2 <= len(ticks) <= 12
    assert low - room <= ticks[0]
    assert ticks[-1] <= high + room
    gaps = np.diff(ticks)
    assert np.allclose(gaps, gaps[0], rtol=1e-4)
    mantissa = gaps[0] / 10 ** math.floor(math.log10(gaps[0] * 1.0001))
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-3
    assert len(set(tick_labels(ticks))) == len(ticks) or abs(low) > 1e3 * size


@steady
@given(st.floats(1e-8, 1e8), st.floats(1.01, 1e9))
def test_log_ticks_are_inside_and_rise(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert ticks
    assert all(low * (1 - 1e-9) <= tick <= low * ratio * (1 + 1e-9) for tick in ticks)
    assert ticks == sorted(set(ticks))


@steady
@given(reals, st.floats(1e-3, 1e6), st.floats(0, 1))
def test_scale_is_linear(low, size, share):
    scale = Scale(low, low + size, 10, 110)
    assert scale(low + share * size) == pytest.approx(10 + 100 * share, abs=0.1)


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [math.nan], [1e-12, 1e-12]])
@pytest.mark.parametrize("log", [False, True])
def test_a_scale_always_has_extent(values, log):
    scale = fit(values, 0, 100, log)
    assert scale.low < scale.high
    assert scale.ticks()


# Thinning and smoothing


@steady
@given(st.lists(reals, min_size=1, max_size=400), st.integers(4, 60))
def test_subsample_keeps_extremes_and_ends(values, limit):
    keep = subsample(values, limit)
    kept = [values[index] for index in keep]
    assert len(keep) <= max(limit, 4)
    assert list(keep) == sorted(set(keep))
    assert {0, len(values) - 1} <= set(keep.tolist())
    assert (min(kept), max(kept)) == (min(values), max(values))


def test_subsample_keeps_a_gap():
    values = np.linspace(5, 1, 10_000)
    values[7000] = math.nan
    assert 7000 in subsample(values, 200)


def test_smooth_follows_without_lag_and_keeps_gaps():
    x = np.arange(400.0)
    line = 3 - 0.005 * x
    assert np.allclose(smooth(x, line, 20), line)
    noisy = line + np.random.default_rng(0).normal(0, 0.1, 400)
    assert np.abs(smooth(x, noisy, 20) - line).max() < 0.08
    noisy[9] = math.nan
    assert np.flatnonzero(np.isnan(smooth(x, noisy, 20))).tolist() == [9]


def test_smooth_bears_equal_places():
    assert np.isfinite(smooth([1, 1, 1, 1], [1.0, 2.0, 3.0, 4.0], 2)).all()


@steady
@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_keep_their_distance(wanted):
    places = spread(wanted, gap=16, low=0, high=300)
    gaps = np.diff(sorted(places))
    assert (gaps >= 16 - 1e-6).all()
    assert max(places) <= 300 + 1e-6


# Charts


def test_chart_is_well_formed_and_always_the_same():
    series = [Series("a <b>", range(5000), np.sin(np.arange(5000) / 300))]
    drawing = line_chart(smoothed(series[0]), description='"x" & y')
    root = xml.fromstring(drawing)
    assert root.attrib["viewBox"] == "0 0 920 360"
    assert root.find("title").text == '"x" & y'
    assert drawing == line_chart(smoothed(series[0]), description='"x" & y')
    assert len(drawing) < 80_000


def test_chart_draws_values_where_the_axis_says():
    root = xml.fromstring(line_chart([Series("a", [0, 10], [1, 3])]))
    low, high, start, end = map(float, root.attrib["data-y"].split())
    path = root.find("path").attrib["d"]
    first = float(path[1:].split("L")[0].split()[1])
    assert first == pytest.approx(
        start + (1 - low) / (high - low) * (end - start), abs=0.1
    )


@pytest.mark.parametrize(
    "y", [[], [1.0], [math.nan] * 3, [0.0, -1.0, 2.0], [math.inf, 1]]
)
@pytest.mark.parametrize("log", [False, True])
def test_chart_bears_odd_values(y, log):
    drawing = line_chart([Series("odd", range(1, len(y) + 1), y)], y_log=log, x_log=log)
    xml.fromstring(drawing)
    assert "nan" not in drawing.replace("odd nan", "")
    assert "inf" not in drawing


def test_the_line_is_broken_where_it_is_not_finite():
    root = xml.fromstring(line_chart([Series("a", range(4), [1, 2, math.nan, 3])]))
    assert root.find("path").attrib["d"].count("M") == 2


def test_bars():
    root = xml.fromstring(bar_chart(["one", "two"], [1, 4]))
    widths = [float(bar.attrib["width"]) for bar in root.findall("rect")]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    xml.fromstring(bar_chart([], []))
