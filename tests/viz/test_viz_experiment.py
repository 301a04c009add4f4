"""Drawings of experiments and of experts, from records made up here."""

import copy
import json
import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from folio.config import UserError
from folio.viz import write_report
from folio.viz.dots import Dots, dot_plot
from folio.viz.experiment import figure, render_experiment
from folio.viz.experts import Load, load_maps, read_load
from folio.viz.folder import read_run
from folio.viz.layers import layer_chart

SVG = "{http://www.w3.org/2000/svg}"


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def curve(shift: float) -> dict:
    mean = [3.0 + shift, 2.0 + shift, 1.5 + shift]
    low, high = [[m + d for m in mean] for d in (-0.1, 0.1)]
    return {"x": [10, 20, 30], "mean": mean, "low": low, "high": high}


def variant(mean: float, **more) -> dict:
    return {
        "values": [mean - 0.1, mean + 0.1],
        "mean": mean,
        "standard_error": 0.1,
        "parameters": 279_104,
        "active_parameters": 279_104,
        "cache_bytes_per_token": 2048.0,
        "changes": {},
    } | more


@pytest.fixture
def record() -> dict:
    gap = {"mean": -0.2, "within": 0.1, "verdict": "lower"}
    both = {"first": curve(0.2), "second": curve(0.0)}
    return {
        "title": "One & another",
        "question": "Which <is> it?",
        "note": "Mind the <gap>.",
        "command": "folio compare experiments/it.toml",
        "date": "2025-01-01",
        "commit": None,
        "machine": "a kitchen",
        "versions": {"folio": "0.1"},
        "seeds": [1, 2],
        "tokens": 819_200,
        "equal": "parameters",
        "metric": "val_loss",
        "variants": {"first": variant(1.7), "second": variant(1.5, difference=gap)},
        "curves": {"val_loss": both, "grad_norm": both, "grad_norm.blocks.0": both},
        "differences": {"second": curve(-2.0)},
        "loads": {},
    }


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_the_page_has_what_the_record_has(record):
    page = render_experiment(record)
    assert page == render_experiment(copy.deepcopy(record))
    parts = ["Numbers", "Curves", "Differences", "Gradient norm", "Record"]
    assert titles(page) == parts
    assert "One &amp; another" in page
    assert "Which &lt;is&gt; it?" in page
    for text in (
        "1.7000",
        "-0.2000",
        "lower",
        "equally many parameters",
        "2 seeds",
        "&lt;gap&gt;",
    ):
        assert text in page
    record["variants"]["second"]["cache_bytes_per_token"] = 512.0
    load = {
        "layers": ["blocks.0"],
        "steps": [10, 20],
        "shares": [[[1, 0]], [[0.5, 0.5]]],
    }
    record["loads"] = {"second": load}
    more = titles(render_experiment(record))
    assert set(more) - set(parts) == {"Cache", "Load of the experts over time"}


def test_one_seed_has_no_error(record):
    record["seeds"] = [1]
    for found in record["variants"].values():
        found |= {"values": [1.0], "standard_error": None}
    gap = {"mean": 0.1, "within": None, "verdict": "one seed only"}
    record["variants"]["second"]["difference"] = gap
    page = render_experiment(record)
    assert "one seed only" in page
    xml.fromstring(figure(record))


def test_the_figure_stands_alone(record):
    drawing = figure(record)
    root = xml.fromstring(drawing)
    assert root.tag == f"{SVG}svg"
    assert "var(" not in drawing
    words = {text.text for text in root.iter(f"{SVG}text")}
    assert {"first", "second", "held-out loss"} <= words


def test_dots_and_bars_stand_where_they_should():
    rows = [
        Dots("a", [1.0, 3.0], 2.0, 0.5, "train"),
        Dots("b", [2.0], 2.0, None, "rate"),
    ]
    root = xml.fromstring(dot_plot(rows, "loss"))
    dots = [float(c.get("cx")) for c in root.iter("circle")]
    assert len(dots) == 3
    assert dots[2] == pytest.approx((dots[0] + dots[1]) / 2)  # 2 lies between 1 and 3
    bars = [
        (float(line.get("x1")), float(line.get("x2")))
        for line in root.iter("line")
        if line.get("stroke-opacity")
    ]
    unit = (dots[1] - dots[0]) / 2
    assert bars[0] == pytest.approx((dots[2] - unit / 2, dots[2] + unit / 2), abs=0.02)
    assert bars[1] == pytest.approx((dots[2], dots[2]))


def test_a_collapse_is_seen():
    """One row of the map is dark to the end; the others fade."""
    shares = np.zeros((2, 1, 4))
    shares[0], shares[1, 0, 2] = 0.25, 1.0
    root = xml.fromstring(load_maps({"none": Load(["blocks.0"], [1, 2], shares)}))
    strokes = {path.get("stroke"): path.get("d") for path in root.iter("path")}
    assert strokes["var(--attention-15)"] == "M1 2.5h1"
    assert strokes["var(--attention-8)"].count("M") == 4  # all alike at first
    words = [text.text for text in root.iter("text")]
    assert words == ["steps 1 to 2 →", "none", "layer 1"]


def test_a_load_is_read_and_thinned(tmp_path):
    entries = [
        {"step": s, "shares": [[0.5, 0.5], [1.0, 0.0]]} for s in range(10, 0, -1)
    ]
    path = tmp_path / "experts.json"
    assert read_load(path) is None
    write_json(path, {"layers": ["blocks.0", "blocks.2"], "steps": entries})
    load = read_load(path)
    assert load.steps == list(range(1, 11))
    assert load.shares.shape == (10, 2, 2)
    few = load.thinned(6)
    assert few.steps == [2, 4, 6, 8, 10]
    assert few.shares.shape == (5, 2, 2)
    assert load.thinned(10).steps == load.steps


@pytest.mark.parametrize(
    "figure",
    [
        {"steps": []},
        {"layers": ["a"], "steps": [{"step": 1}]},
        {"layers": ["a"], "steps": [{"step": 1, "shares": [[1.0], [1.0]]}]},
        {"layers": ["a"], "steps": [{"step": 1, "shares": "much"}]},
        {"layers": 3, "steps": []},
    ],
)
def test_a_damaged_load_is_named(tmp_path, figure):
    write_json(tmp_path / "experts.json", figure)
    with pytest.raises(UserError, match=r"experts\.json: not a record of experts"):
        read_load(tmp_path / "experts.json")


def test_a_report_shows_layers_and_experts(tmp_path):
    layers = [f"blocks.{i}" for i in range(12)]
    rows = [
        {"step": s, "loss": 3.0 - s / 10}
        | {f"grad_norm.{name}": i + 1.0 for i, name in enumerate(layers)}
        for s in range(1, 9)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(lines)
    load = {"layers": ["blocks.0"], "steps": [{"step": 4, "shares": [[0.5, 0.5]]}]}
    write_json(tmp_path / "figures/experts.json", load)
    page = write_report(tmp_path).read_text()
    assert "Experts" in titles(page)
    assert "Gradient norm, layer by layer" in page
    drawn = layer_chart(read_run(tmp_path), "grad_norm")
    names = re.findall(r">(layer \d+) [\d.]+</text>", drawn.split("narrow")[0])
    assert names == [f"layer {i}" for i in range(1, 13)]
    assert "blocks.0" not in page  # no small chart of its own
