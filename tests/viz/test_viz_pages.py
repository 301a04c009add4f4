"""Whole pages: reports and comparisons, from folders on disk."""

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess

import pytest

from folio.config import UserError
from folio.viz import compare_table, write_compare, write_report
from folio.viz import page as page_module
from folio.viz.compare import mean_and_range
from folio.viz.folder import read_run
from folio.viz.groups import group_runs, read_runs
from folio.viz.svg import Series
from viz.checker import EVIL, check

PARTS = ["curves", "samples", "tokens", "attention", "results", "recipe", "machine"]


# The report


def test_report_has_every_part(make_run):
    run = make_run()
    path = write_report(run)
    assert path == run / "report.html"
    page = check(path)
    assert set(PARTS) <= set(page.ids)
    info = json.loads((run / "run.json").read_text())
    assert f"{info['results']['val_loss']:.3f}" in page.text
    for words in ("924 K", "Kneser-Ney 5-gram", "Copy name", info["command"], "rotary"):
        assert words in page.text
    assert info["notes"][0] in page.text
    assert "http" not in path.read_text(encoding="utf-8").replace("http-equiv", "")
    assert path.stat().st_size < 3_000_000


def test_the_same_run_gives_the_same_page(make_run):
    run = make_run()
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert sorted(file.name for file in run.iterdir() if "report" in file.name) == [
        "report.html"
    ]


@pytest.mark.parametrize(
    "missing",
    [
        "recipe.toml",
        "run.json",
        "samples.jsonl",
        "figures/attention.json",
        "figures/tokens.json",
        "results.json",
    ],
)
def test_a_missing_file_leaves_its_part_out(make_run, missing):
    run = make_run()
    (run / missing).unlink()
    page = check(write_report(run))
    titles = {
        "recipe.toml": "Recipe",
        "run.json": "Machine",
        "samples.jsonl": "Samples",
        "figures/attention.json": "Attention",
        "figures/tokens.json": "Tokens",
        "results.json": "Results",
    }
    assert titles[missing].lower() not in page.ids
    assert "curves" in page.ids


def test_metrics_alone_are_enough(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    page = check(write_report(tmp_path))
    assert "training loss" in page.text
    assert "2.500" in page.text


def test_hostile_text_stays_text(make_run):
    run = make_run()
    odd = EVIL + "\x00\x1b\ud800"
    samples = [{"step": s, "prompt": EVIL, "text": EVIL + odd} for s in range(9)]
    tokens = [{"id": 1, "text": odd, "bytes": 9, "special": False}]
    attention = json.loads((run / "figures/attention.json").read_text())
    attention["tokens"][0] = odd
    info = json.loads((run / "run.json").read_text())
    info |= {"command": EVIL, "notes": [EVIL], "machine": EVIL, EVIL: EVIL, "host": odd}
    (run / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)))
    (run / "figures/tokens.json").write_text(
        json.dumps({"text": odd, "tokens": tokens})
    )
    (run / "figures/attention.json").write_text(json.dumps(attention))
    (run / "run.json").write_text(json.dumps(info))
    table = {"title": EVIL, "columns": [EVIL], "rows": [[EVIL]]}
    (run / "results.json").write_text(json.dumps(table))
    with open(run / "metrics.jsonl", "a") as log:
        log.write(json.dumps({"step": 2000, EVIL: 3.5}) + "\n")
    page = check(write_report(run))
    assert "<script>alert" in page.text
    check(write_compare([run], run / "compare.html"))


def test_only_the_page_s_own_script_may_run(make_run):
    path = write_report(make_run())
    text = path.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in check(path).policy


def test_not_a_number_is_drawn_as_a_gap(make_run):
    run = make_run()
    with open(run / "metrics.jsonl", "a") as log:
        log.write('{"step": 2001, "loss": NaN, "grad_norm": Infinity}\n')
    check(write_report(run))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (
            "metrics.jsonl",
            '{"step": 1, "loss": 2}\n{"step": 2, "lo',
            "metrics.jsonl line 2",
        ),
        ("metrics.jsonl", '{"loss": 2}\n', "line 1: 'step'"),
        ("metrics.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("metrics.jsonl", "\n", "empty"),
        ("run.json", "{", "run.json: not valid JSON"),
        ("samples.jsonl", '{"step": 1}', "samples.jsonl line 1"),
        ("results.json", '{"columns": ["a"], "rows": [[1, 2]]}', "row 0 needs 1 cells"),
        ("recipe.toml", "a = ", "recipe.toml"),
    ],
)
def test_damaged_files_are_named(make_run, file, content, words):
    run = make_run()
    (run / file).write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_missing_metrics_and_folders_are_named(make_run, tmp_path):
    run = make_run()
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        write_report(run)
    with pytest.raises(UserError, match="no such run folder"):
        write_report(tmp_path / "nothing")


def test_a_long_run_stays_small_and_keeps_its_spike(make_run):
    run = make_run(steps=20_000, every=1)
    rows = (run / "metrics.jsonl").read_text().splitlines()
    spike = json.loads(rows[10_000]) | {"loss": 99.5}
    rows[10_000] = json.dumps(spike)
    (run / "metrics.jsonl").write_text("\n".join(rows))
    path = write_report(run)
    check(path)
    assert path.stat().st_size < 3_000_000
    tops = re.findall(r'data-y="\S+ (\S+)', path.read_text(encoding="utf-8"))
    assert max(map(float, tops)) > 99


# The comparison


def seeds(make_run):
    """Three seeds of one recipe and one run of another."""
    runs = [make_run(f"base-seed{n}", seed=n, floor=1 + n / 10) for n in (1, 2, 3)]
    return [*runs, make_run("learned", positions="learned")]


def test_runs_that_differ_by_seed_are_one_group(make_run):
    groups = group_runs(read_runs(seeds(make_run)))
    assert [group.title for group in groups] == ["base (3 seeds)", "learned"]
    assert groups[0].names == ["base-seed1", "base-seed2", "base-seed3"]
    losses = [run.results()["val_loss"] for run in groups[0].runs]
    assert groups[0].mean("val_loss") == pytest.approx(sum(losses) / 3)
    assert groups[0].ends("val_loss") == (min(losses), max(losses))


def test_a_run_without_a_recipe_is_its_own_group(make_run):
    runs = [make_run("a", seed=1), make_run("b", seed=2)]
    for run in runs:
        (run / "recipe.toml").unlink()
    assert len(group_runs(read_runs(runs))) == 2


def test_mean_and_range():
    lines = [Series("", [0, 2, 4], [0, 2, 4]), Series("", [1, 3], [3, 5])]
    x, low, mean, high = mean_and_range(lines)
    assert x.tolist() == [1, 2, 3]
    assert low.tolist() == [1, 2, 3]
    assert mean.tolist() == [2, 3, 4]
    assert high.tolist() == [3, 4, 5]
    nothing = mean_and_range([Series("", [0], [math.nan])])
    assert [part.size for part in nothing] == [0, 0, 0, 0]


def test_compare_page(make_run, tmp_path):
    runs = seeds(make_run)
    out = tmp_path / "out" / "compare.html"
    assert write_compare(runs, out) == out
    page = check(out)
    for words in (
        "base (3 seeds)",
        "learned",
        "model.positions",
        "rotary",
        "base-seed2",
    ):
        assert words in page.text
    assert "weight_decay" not in page.text
    first = out.read_bytes()
    assert write_compare(runs, out).read_bytes() == first
    assert 'fill-opacity="0.18"' in out.read_text(encoding="utf-8")


def test_compare_one_run_and_runs_without_evaluations(make_run, tmp_path):
    run = make_run()
    check(write_compare([run], tmp_path / "one.html"))
    short = tmp_path / "short"
    short.mkdir()
    (short / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    check(write_compare([run, short], tmp_path / "two.html"))


def test_different_tokenizers_are_compared_by_bits(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", layers=2)]
    info = json.loads((runs[1] / "run.json").read_text())
    info["tokenizer"]["fingerprint"] = "other"
    (runs[1] / "run.json").write_text(json.dumps(info))
    page = check(write_compare(runs, tmp_path / "c.html"))
    assert "bits per byte are" in page.text
    assert "reaches the lowest bits per byte" in page.text


def test_compare_table(make_run):
    rows = compare_table(seeds(make_run))
    assert [row["run"] for row in rows] == [
        "base-seed1",
        "base-seed2",
        "base-seed3",
        "base, mean of 3",
        "learned",
    ]
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert rows[4]["model.positions"] == "learned"
    assert rows[3]["val_loss_range"] == pytest.approx(
        rows[2]["val_loss"] - rows[0]["val_loss"]
    )
    assert rows[3]["parameters"] == 924_160


def test_compare_refuses_nothing_and_twice(make_run):
    with pytest.raises(UserError, match="nothing to compare"):
        compare_table([])
    run = make_run()
    with pytest.raises(UserError, match="given twice"):
        compare_table([run, run])


def test_equal_names_get_their_folder(make_run):
    groups = group_runs(read_runs([make_run("x/a"), make_run("y/a", layers=2)]))
    assert [group.name for group in groups] == ["x/a", "y/a"]


def test_results_fall_back_on_the_log(make_run):
    run = make_run()
    recorded = read_run(run).results()
    (run / "run.json").unlink()
    logged = read_run(run).results()
    assert logged["val_loss"] == recorded["val_loss"]
    assert logged["best_step"] == recorded["best_step"]
    assert logged["tokens"] == recorded["tokens"]


# The script, in a real browser

PROBE = """
const result = {};
const svg = document.querySelector(".view .wide svg");
const box = svg.getBoundingClientRect();
const over = (target, x, y, kind = "pointermove") => target.dispatchEvent(
  new PointerEvent(kind, {clientX: x, clientY: y, bubbles: true}));
over(svg, box.left + box.width / 2, box.top + 50);
result.readouts = all(".chart .readout").map(p => p.textContent.trim());
const part = document.querySelector(".attention");
const canvas = part.querySelector("canvas");
const slider = part.querySelector("input");
slider.value = 0; slider.oninput();
result.step = part.querySelector("output").textContent;
const place = canvas.getBoundingClientRect();
over(canvas, place.left + place.width * .3, place.top + place.height * .95);
result.attention = part.querySelector(".readout").textContent;
over(document.querySelector(".token"), 0, 0, "pointerover");
result.tip = document.getElementById("tip").textContent;
document.getElementById("theme").click();
result.theme = root.dataset.theme;
document.title = JSON.stringify(result);
"""


@pytest.mark.browser
def test_the_script_works_in_a_browser(make_run, tmp_path, monkeypatch):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    own = page_module._asset
    monkeypatch.setattr(
        page_module, "_asset", lambda name: own(name) + PROBE * (name == "page.js")
    )
    path = write_report(make_run())
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
    command += ["--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1280,900", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    title = re.search(r"<title>(.*?)</title>", done.stdout)[1]
    result = json.loads(title.replace("&gt;", ">").replace("&quot;", '"'))
    assert all(text.startswith("step ") for text in result["readouts"])
    assert "train " in result["readouts"][0]
    assert result["step"] == "step 0"
    assert re.fullmatch(r"layer 4, head 1 · \S+ → \S+: 0\.\d\d", result["attention"])
    assert "is token 641: 4 bytes" in result["tip"]
    assert result["theme"] == "dark"
