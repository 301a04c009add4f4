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
