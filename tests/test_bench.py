"""The benchmarks' shared parts: fair rounds, a record without anyone's folders."""

import itertools
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import record

    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "load", lambda: 0.0)
    return record


@pytest.fixture
def meter(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import meter

    return meter


def test_rounds_alternate_and_reverse(record):
    calls = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = record.interleave(functions, rounds=3, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_a_round_under_foreign_load_is_run_again(record, monkeypatch):
    # readings before and after each round: others use 0, 1, 0 cores in turn
    readings = [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
    busy = [(0.0, 0.0, 0.0), (1.0, 2.0, 1.0)]
    stream = iter(readings + busy + readings)
    monkeypatch.setattr(record, "_cpu_seconds", lambda: next(stream))
    numbers = itertools.count()
    monkeypatch.setattr(record, "time_once", lambda function: float(next(numbers)))
    seconds = record.interleave({"a": int}, rounds=2, warmup=0, foreign=0.5)
    assert seconds == {"a": [0.0, 2.0]}


def test_endless_foreign_load_ends_all_the_same(record, monkeypatch):
    stream = itertools.cycle([(0.0, 0.0, 0.0), (1.0, 2.0, 1.0)])
    monkeypatch.setattr(record, "_cpu_seconds", lambda: next(stream))
    seconds = record.interleave({"a": int}, rounds=2, warmup=0, foreign=0.5)
    assert len(seconds["a"]) == 2


@pytest.mark.parametrize(
    ("value", "higher", "met"),
    [(2.5, True, True), (2.4, True, False), (2.5, False, True), (2.6, False, False)],
)
def test_the_record(record, monkeypatch, capsys, value, higher, met):
    monkeypatch.setattr(sys, "argv", ["bench/speed.py", "--quick"])
    rows = record.rows_of({"folio": [1.0, 3.0, 2.0]})
    path = record.record("speed", value, 2.5, rows, higher_is_better=higher)
    assert capsys.readouterr().out.splitlines()[-1] == f"speed {value} 2.5"
    saved = json.loads(path.read_text())
    assert (saved["met"], saved["quick"]) == (met, True)
    assert saved["command"] == "python bench/speed.py --quick"
    assert saved["rows"][0]["median_s"] == 2.0
    assert {"machine", "cores", "memory_gib", "accelerator"} <= saved["machine"].keys()
    assert {"python", "torch", "folio-llm"} <= saved["versions"].keys()
    assert [file.name for file in path.parent.iterdir()] == ["speed.json"]


def test_the_command_names_no_private_folder(record, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [
        str(ROOT / "bench" / "speed.py"),
        "--peer=/home/someone/secret/peer",
        "--text",
        "../elsewhere/text.txt",
        "--out",
        "runs/x",
        "--rate",
        "0.5",
    ]
    monkeypatch.setattr(sys, "argv", words)
    assert record.command() == (
        "python bench/speed.py --peer=peer --text text.txt --out runs/x --rate 0.5"
    )


def test_foreign_load_is_a_number_of_cores(record):
    start = record._cpu_seconds()
    sum(range(2_000_000))  # our own work is not foreign
    assert record._foreign_cores(start, record._cpu_seconds()) >= 0.0
    idle, ours = (0.0, 5.0, 5.0), (1.0, 6.0, 6.0)
    assert record._foreign_cores(idle, ours) == 0.0


def test_the_meter_counts_lines(meter, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "bpe.py").write_text(
        "import math\n\n\n@decorated\nclass A:\n    def f(self):\n        return 1\n"
    )
    parts = {(p.kind, p.name): p.lines for p in meter.measure(tmp_path)}
    assert parts == {("file", ""): 7, ("class", "A"): 4, ("function", "A.f"): 2}
    totals = meter.package_totals(meter.measure(tmp_path))
    assert totals == {"text": {"files": 1, "lines": 7}}


# ---- the benchmark of a card ---------------------------------------------------------


@pytest.fixture
def gpu(record, monkeypatch):
    import gpu

    monkeypatch.setattr(sys, "argv", ["bench/gpu.py", "--quick"])
    return gpu


def test_a_case_that_fails_is_a_row_and_the_others_stay(gpu, record, capsys):
    def breaks():
        yield {"speed": 1.0}
        raise RuntimeError("the card melted\nin many lines")

    sheet = gpu.Sheet("card", quick=True)
    sheet.run("train", "whole", lambda: [{"speed": 2.0}])
    sheet.run("train", "broken", breaks)
    sheet.run("train", "wrong", lambda: [{"error": 0.5, "ok": False}])
    saved = json.loads((record.RESULTS / "card.json").read_text())["rows"]
    assert [row["speed"] for row in saved if "speed" in row] == [2.0, 1.0]
    errors = [row["error"] for row in sheet.failed]
    assert errors == ["RuntimeError: the card melted", 0.5]
    assert all({"seconds", "date"} <= saved[i].keys() for i in (1, -1))


def test_a_later_session_adds_to_the_record(gpu):
    first = gpu.Sheet("card", quick=True)
    first.run("train", "good", lambda: [{"speed": 1.0}])
    first.run("train", "bad", lambda: [{"ok": False}])
    again = gpu.Sheet("card", quick=True)
    assert again.has("train", "good")
    assert not again.has("train", "bad")
    again.run("train", "bad", lambda: [{"speed": 3.0}])
    kept = gpu.Sheet("card", quick=True).rows
    assert [row["speed"] for row in kept if "speed" in row] == [1.0, 3.0]
    assert not [row for row in kept if row.get("ok") is False]
    assert gpu.Sheet("card", quick=False).rows == []  # tiny and real don't mix


def test_a_wrong_result_is_not_within_its_bound(gpu):
    judged = gpu.correctness.judged
    assert judged(0.1, logits=0.1)["ok"]
    assert not judged(0.1, logits=0.05, gradients=0.2)["ok"]
    assert not judged(0.1, logits=float("nan"))["ok"]


def test_the_headline_counts_our_autocast_alone(gpu):
    case = {"case": "124M bf16 autocast"}
    rows = [case | {"mfu": 0.3}, case | {"mfu": 0.4}, case | {"mfu_of_peer": 0.9}]
    assert gpu.headline([*rows, {"case": "124M bf16 weights", "mfu": 0.8}]) == 0.4
    assert gpu.headline([]) == 0.0
