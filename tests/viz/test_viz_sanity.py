"""The page of a reward model, from what `folio eval RUN sanity` has kept."""

import copy
import json
import re

import pytest

from folio.config import UserError
from folio.viz.sanity import render_sanity, write_sanity


def measure(mean: float, low: float | None = None, high: float | None = None) -> dict:
    return {"mean": mean, "low": low, "high": high, "count": 40}


FOUND = {
    "pairs": {
        "accuracy": {"all": measure(0.75, 0.7, 0.8), "<style>": measure(1.0, 0.9, 1.0)},
        "baselines": {
            "longer wins": {"all": measure(0.5), "<style>": measure(0.25, 0.1, 0.4)}
        },
        "calibration": {
            "bins": [
                {"confidence": 0.6, "accuracy": measure(0.5, 0.4, 0.6)},
                {"confidence": 0.9, "accuracy": measure(0.8, 0.7, 0.9)},
            ],
            "error": 0.125,
        },
    },
    "degenerate": {"empty": {"below": measure(0.975), "score": -1.5, "gold": 2.25}},
    "answers": {
        "count": 800,
        "unfinished": 3,
        "rank_correlation": 0.625,
        "length_bias": None,
        "best_of": [
            {"n": n, "kl": kl, "truth": measure(t), "best": b, "score": s}
            for n, kl, t, b, s in ((1, 0.0, 0.5, 0.5, 0.1), (2, 0.19, 0.4, 0.9, 0.7))
        ],
    },
}


def test_the_page_shows_what_was_found():
    page = render_sanity(FOUND, "rm")
    for shown in (
        "<title>rm · Folio</title>",
        "0.750",
        "0.70-0.80",
        "&lt;style&gt;",  # a category is a user's text
        "longer wins",
        "0.975",
        "-1.500",
        "+0.62",
        "n = 1, 2",
        "chosen by the truth",
    ):
        assert shown in page, shown
    assert page == render_sanity(FOUND, "rm")


def test_the_charts_draw_these_numbers():
    page = render_sanity(FOUND, "rm")
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', page)
    lines = {
        line["name"]: (line["x"], line["y"])
        for block in blocks
        for line in json.loads(block)["lines"]
    }
    assert lines["is right"] == ([0.6, 0.9], [0.5, 0.8])
    assert lines["chosen by the model"] == ([0, 0.19], [0.5, 0.4])
    assert lines["chosen by the truth"] == ([0, 0.19], [0.5, 0.9])
    assert lines["score"] == ([0, 0.19], [0.1, 0.7])


def test_what_is_not_known_is_left_out():
    found = copy.deepcopy(FOUND) | {"degenerate": {}, "answers": None}
    page = render_sanity(found, "rm")
    assert "Best of n" not in page
    assert "Degenerate" not in page
    assert "Calibration" in page


def test_it_is_written_beside_what_it_shows(tmp_path):
    with pytest.raises(UserError, match=r"folio eval .* sanity"):
        write_sanity(tmp_path)
    (tmp_path / "sanity.json").write_text(json.dumps(FOUND))
    path = write_sanity(tmp_path)
    assert path == tmp_path / "sanity.html"
    assert path.read_text(encoding="utf-8") == render_sanity(FOUND, tmp_path.name)
    for damaged in ("{", "[]", json.dumps({"pairs": {}})):
        (tmp_path / "sanity.json").write_text(damaged)
        with pytest.raises(UserError, match=r"sanity\.json is damaged"):
            write_sanity(tmp_path)
