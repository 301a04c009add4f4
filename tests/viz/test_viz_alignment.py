"""The page of a whole path, and the figure of a hacked reward."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from folio.config import UserError
from folio.viz.alignment import render_gains, two_curves, write_gains
from folio.viz.bars import Bar, interval_bars
from viz.checker import EVIL, Checker

MEASURES = ("gold", "accuracy", "style", "exact")


def measure(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "count": 500}


def results(level: float, tasks=("sort", "who_has")) -> dict:
    """Greedy is an eighth ahead; tasks are apart by a hundredth."""
    return {
        mode: {
            task: {key: measure(level + ahead + place / 100) for key in MEASURES}
            for place, task in enumerate(("all", *tasks))
        }
        for mode, ahead in (("greedy", 0.125), ("sampled", 0.0))
    }


GAINS = {
    "core": {"sft": results(0.25), "grpo": results(0.5)},
    "unseen": {"sft": results(0.125), "grpo": results(0.375)},
    "ladder": {"sft": results(0.0625, ("count",)), "grpo": results(0.15, ("count",))},
}
ANSWERS = [
    {
        "prompt": "Sort 7 3.",
        "answers": {
            "sft": {"greedy": "7 3", "sampled": EVIL},
            "grpo": {"greedy": "3 7", "sampled": "3 7."},
        },
    }
]


def test_the_page_shows_what_was_gained():
    text = render_gains(
        GAINS, name="demo", answers=ANSWERS, reports={"sft": "a/b.html"}
    )
    page = Checker(text)
    for part in ("stages", "tasks", "wordings", "ladder", "answers", "reports"):
        assert part in page.ids
    assert "From sft to grpo · 500 held-out prompts" in page.text
    for shown in ("Sort 7 3.", "who has", "0.51", "0.62", "0.16", EVIL):
        assert shown in page.text, shown
    links = [at for at in page.loads if not at.startswith("#")]
    assert links == ["a/b.html"]
    assert page.scripts.count(None) == 1
    assert page.handlers == []
    again = render_gains(
        GAINS, name="demo", answers=ANSWERS, reports={"sft": "a/b.html"}
    )
    assert text == again


def test_exams_that_were_not_taken_are_left_out():
    page = Checker(render_gains({"core": GAINS["core"]}))
    assert page.ids[:2] != []
    for part in ("wordings", "ladder", "answers", "reports"):
        assert part not in page.ids


def test_cells_are_as_strong_as_answers_are_right():
    text = render_gains({"core": GAINS["core"]})
    cells = re.findall(r"var\(--train\) (\d+)%[^>]*>(\d\.\d\d)<", text)
    assert ("23", "0.51") in cells  # 45 % of it, so that letters stay readable
    assert all(int(share) == round(45 * float(mean)) for share, mean in cells)


def test_bars_are_as_long_as_their_values():
    bars = [Bar(0.5, "run-0", 0.25, 0.75), Bar(0.25, "run-1"), Bar(-0.5, "run-2")]
    drawing = interval_bars([("sft", bars)], most=1.0)
    widths = [float(w) for w in re.findall(r'<rect[^>]*?width="([\d.]+)"', drawing)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.02)
    assert widths[2] == 0
    assert ">-0.50<" in drawing
    left = float(re.search(r'<rect x="([\d.]+)"', drawing)[1])
    line = re.search(
        r'<line x1="([\d.]+)" x2="([\d.]+)"[^>]*stroke-width="1.2"', drawing
    )
    low, high = (float(edge) - left for edge in line.groups())
    assert low == pytest.approx(widths[0] / 2, abs=0.02)
    assert high == pytest.approx(widths[0] * 1.5, abs=0.02)


def test_it_is_written_beside_what_it_shows(tmp_path):
    with pytest.raises(UserError, match="folio demo"):
        write_gains(tmp_path)
    (tmp_path / "gains.json").write_text(json.dumps(GAINS))
    for name, started in (("grpo", "2025-03-02"), ("sft", "2025-03-01")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").write_text("")
        (tmp_path / name / "run.json").write_text(json.dumps({"started": started}))
    path = write_gains(tmp_path, answers=ANSWERS)
    assert path == tmp_path / "gains.html"
    links = [at for at in Checker(path.read_text()).loads if not at.startswith("#")]
    assert links == ["sft/report.html", "grpo/report.html"]  # as they were begun
    for damaged in ("{", "[]", "{}", json.dumps({"core": {"sft": {}}})):
        (tmp_path / "gains.json").write_text(damaged)
        with pytest.raises(UserError, match=r"gains\.json is damaged") as caught:
            write_gains(tmp_path)
        assert "\n" not in str(caught.value)


def test_an_interval_without_bounds_is_not_drawn():
    """One prompt only: the interval of a mean has no ends, and JSON says null."""
    gains = json.loads(json.dumps({"core": GAINS["core"]}))
    for mode in ("greedy", "sampled"):
        gains["core"]["sft"][mode]["all"]["gold"] |= {"low": None, "high": None}
    assert render_gains(gains).count('stroke-width="1.2"') == (
        render_gains({"core": GAINS["core"]}).count('stroke-width="1.2"') - 2 * 3
    )


def test_two_curves_stand_alone():
    runs = {
        "free <b>": {"steps": [0, 50, 100], "reward": [0, 1, 2], "accuracy": [5, 4, 1]},
        "dear": {"steps": [0, 100], "reward": [0, 1], "accuracy": [5, 6]},
    }
    drawing = two_curves(runs)
    ElementTree.fromstring(drawing)  # well-formed XML
    assert "var(" not in drawing
    assert "free &lt;b&gt;" in drawing
    assert drawing == two_curves(runs)
    paths = re.findall(r'<path d="(M[^"]+)"', drawing)
    assert len(paths) == 4
    ups = [[float(p.split(" ")[1]) for p in re.split("[ML]", d)[1:]] for d in paths]
    rewards, truths = ups[:2], ups[2:]
    assert all(line[-1] < line[0] for line in rewards)  # upwards on paper
    assert truths[0][-1] > truths[0][0]
    assert truths[1][-1] < truths[1][0]
    with pytest.raises(UserError, match="no runs"):
        two_curves({})
