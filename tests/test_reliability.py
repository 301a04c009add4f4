"""A fiftieth of `make reliability`: each promise is kept, and a broken build fails."""

import doctest
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from reliability import (
    disk,
    kills,
    large_text,
    overload,
    power,
    record,
    row,
    runner,
    table,
)
from reliability.calls import Call, watched
from reliability.disk_model import Disk
from reliability.row import Row, Tally
from reliability.rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
FORKING = ("kills", "locks", "shutdowns")  # not from a process with threads of its own
QUICK = {  # trials, of all parts together
    "power": 100,
    "rot": 200,
    "resume": 2,
    "disk": 20,
    "retention": 100,
    "nonfinite": 9,
    "shards": 26,
    "folders": 30,
    "text_streams": 2000,
    "forged_turns": 800,
    "bodies": 320,
    "cancels": 60,
    "overload": 40,
    "faults": 10,
    "neighbors": 20,
}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="what a handle stands for is read from /proc"
)


def tried(name: str, home: Path) -> Tally:
    """All quick parts of a row."""
    tally = Tally()
    for number, arguments in enumerate(ROWS[name].parts(True).values()):
        place = home / str(number)
        place.mkdir()
        tally.add(ROWS[name].work(place.resolve(), **arguments))
    return tally


@pytest.mark.parametrize("name", QUICK)
def test_the_promise_is_kept(tmp_path, name):
    tally = tried(name, tmp_path)
    assert tally.failures == []
    assert tally.trials >= QUICK[name]


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_build_is_noticed(tmp_path, name):
    with ROWS[name].broken():
        tally = tried(name, tmp_path)
    assert tally.failures


def test_killed_and_raced_again_and_again(tmp_path):
    """In a process that may fork; it fails unless the broken builds are noticed."""
    only = [word for name in FORKING for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "reliability", "--quick", *only],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills: 20 trials, 0 failures" in done.stdout
    assert "locks: 12 trials, 0 failures" in done.stdout
    assert "shutdowns: 4 trials, 0 failures" in done.stdout


def test_every_row_of_the_specification_has_its_trials():
    numbers = sorted(each.number for each in ROWS.values())
    assert numbers == [*range(1, 9), *range(11, 21)]
    assert {*QUICK, *FORKING} == set(ROWS)
    full = {name: each.parts(False) for name, each in ROWS.items()}
    counts = {n: sum(p.get("trials", 0) for p in full[n].values()) for n in full}
    assert counts["kills"] == 1000
    assert counts["rot"] == counts["retention"] == 10_000
    assert counts["shards"] >= 500
    assert counts["text_streams"] == counts["forged_turns"] == 100_000
    assert counts["bodies"] == 200_000
    assert counts["cancels"] >= 40_000
    assert counts["faults"] == 500
    assert counts["neighbors"] == 5000
    assert counts["shutdowns"] == 200
    assert counts["disk"] == 1000 + 20 * 5
    assert len({p["stage"] for p in full["resume"].values()}) == 7
    assert sum(p["races"] for p in full["locks"].values()) == 200


# ---- the parts of the harness --------------------------------------------------------


@pytest.mark.parametrize("module", [row, power, overload])
def test_examples(module):
    assert doctest.testmod(module).attempted
    assert doctest.testmod(module).failed == 0


def test_every_call_below_the_folder_is_seen_and_can_fail(tmp_path):
    calls: list[Call] = []
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    with watched(inside, calls.append):
        (inside / "a").mkdir()
        (inside / "a" / "x").write_text("one")
        with open(inside / "a" / "x", "a") as file:
            file.write("two")
        (inside / "a" / "x").rename(inside / "a" / "y")
        outside.write_text("not seen")
        (inside / "a" / "y").unlink()
        (inside / "a").rmdir()
    assert [(call.kind, call.path) for call in calls] == [
        ("mkdir", "a"),
        ("create", "a/x"),
        ("write", "a/x"),
        ("write", "a/x"),
        ("rename", "a/x"),
        ("unlink", "a/y"),
        ("rmdir", "a"),
    ]
    fail = disk.failing(1, 28, lasting=True)
    with watched(inside, fail), pytest.raises(OSError, match="No space"):
        (inside / "x").write_text("one")
    assert (inside / "x").read_text() == ""  # it was made, and not written
    (inside / "y").write_text("no longer watched")


def disk_after(*calls: tuple) -> Disk:
    model = Disk()
    for kind, path, *more in calls:
        content = more[0] if more and isinstance(more[0], bytes) else b""
        target = more[0] if kind == "rename" else ""
        model.apply(Call(kind, path, target), content)
    return model


WRITTEN = [("mkdir", "d"), ("create", "d/x"), ("write", "d/x", b"abc")]
NAMED = [("fsync", "."), ("fsync", "d")]


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        (WRITTEN, {}),
        ([*WRITTEN, ("fsync", "d/x")], {}),  # safe bytes without a safe name
        ([*WRITTEN, ("fsync", "d/x"), ("fsync", "d")], {}),
        ([*WRITTEN, *NAMED], {"d/x": b""}),
        ([*WRITTEN, ("fsync", "d/x"), *NAMED], {"d/x": b"abc"}),
        (
            [*WRITTEN, ("fsync", "d/x"), *NAMED, ("rename", "d/x", "d/y")],
            {"d/x": b"abc"},
        ),
        ([*WRITTEN, ("fsync", "d/x"), *NAMED, ("unlink", "d/x")], {"d/x": b"abc"}),
        (
            [
                *WRITTEN,
                ("fsync", "d/x"),
                ("rename", "d/x", "d/y"),
                *NAMED,
                ("write", "d/y", b"abcdef"),
            ],
            {"d/y": b"abc"},
        ),
    ],
)
def test_the_model_disk_keeps_what_was_flushed(tmp_path, calls, left):
    disk_after(*calls).crash(tmp_path / "left")
    files = [path for path in (tmp_path / "left").rglob("*") if path.is_file()]
    found = {p.relative_to(tmp_path / "left").as_posix(): p.read_bytes() for p in files}
    assert found == left


def test_what_was_not_flushed_may_also_be_there_or_half(tmp_path):
    model = disk_after(*WRITTEN, ("fsync", "."), ("fsync", "d"))
    model.apply(Call("rename", "d/x", "d/y"), b"")
    found = set()
    for number in range(80):
        model.crash(tmp_path / str(number), random.Random(number))
        (path,) = (tmp_path / str(number) / "d").iterdir()  # one name, never two
        found.add((path.name, path.read_bytes()))
    assert {name for name, _ in found} == {"x", "y"}
    assert {data for _, data in found} >= {b"", b"a", b"ab", b"abc", bytes(3)}


def test_a_removal_before_the_new_name_is_safe_is_a_violation():
    start = [Call("rename", "s/.tmp-2-1", "s/step-2")]
    removal = Call("rename", "s/step-1", "s/.tmp-removed-step-1-1")
    assert power.order_violations([*start, removal]) == [
        "s/step-1 removed before s was flushed"
    ]
    assert power.order_violations([*start, Call("fsync", "s"), removal]) == []


def test_kills_that_all_came_too_early_do_not_count():
    def said(**counts):
        return kills.settled(Tally(10, [], Counter(counts)))

    assert "only 0" in said(writing=10)
    assert "no kill hit" in said(training=10)
    assert said(writing=6, renamed=2, training=2) is None


# ---- running and recording -----------------------------------------------------------


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """A row of three parts that counts how often it is run."""
    monkeypatch.setattr(runner, "PROGRESS", tmp_path / "progress")
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    runs: list[int] = []

    def work(home, seed):
        runs.append(seed)
        spoiled = getattr(runner, "spoiled", False)
        tally = Tally()
        tally.note(f"seed {seed}", "lost" if spoiled else None, "kind")
        if len(runs) == 2 and not spoiled:
            raise KeyboardInterrupt
        return tally

    def broken():
        return pytest.MonkeyPatch.context()

    parts = {str(seed): {"seed": seed} for seed in range(3)}
    made = Row(99, "counted", "a promise", lambda quick: parts, work, "breaks", broken)
    return made, runs


def test_what_is_done_is_not_done_again(counted, monkeypatch):
    made, runs = counted
    with pytest.raises(KeyboardInterrupt):
        runner.run_row(made, quick=False, again=False)
    runs += [None, None]  # past the interruption
    result = runner.run_row(made, quick=False, again=False)
    assert runs[4:6] == [1, 2]  # part 0 was kept
    assert result.tally.trials == 3
    assert not record.report(made, result)  # the broken build was not noticed
    found = json.loads((record.RESULTS / "counted.json").read_text())
    assert found["upper_bound_95"] == pytest.approx(0.6316, abs=1e-4)
    assert found["broken"]["noticed"] is False
    assert found["counts"] == {"kind": 3}
    del runs[:]
    runs += [None, None]
    monkeypatch.setattr(runner, "sources", lambda: "other code")
    runner.run_row(made, quick=False, again=False)
    assert runs[2:5] == [0, 1, 2]


def test_a_failure_and_an_unnoticed_break_are_not_good(counted):
    made, _ = counted
    bad = runner.Result(True, Tally(3, ["seed 1: lost"]), Tally(1, ["noticed"]))
    assert not record.report(made, bad)
    assert record.report(made, runner.Result(True, Tally(3), Tally(1, ["noticed"])))
    assert not record.RESULTS.exists()  # quick runs are not written down


def test_the_page_says_what_was_recorded():
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.BEGIN + table.table() + table.END in page
    for name in ROWS:
        assert f"| `{name}` |" in page.split(table.BEGIN)[0]  # what was tried


def test_a_row_that_was_not_run_is_said_to_be_so(tmp_path):
    found = {"trials": 1000, "failures": 0, "upper_bound_95": 0.00299}
    found |= {"broken": {"failures": 3, "trials": 20}}
    found |= {"date": "2026-01-02T03:04:05", "commit": "abc"}
    (tmp_path / "kills.json").write_text(json.dumps(found))
    lines = table.table(tmp_path).splitlines()
    assert lines[2] == (
        "| `kills` | 1,000 | 0 | 0.3 % | 3 of 20 trials | 2026-01-02, abc |"
    )
    assert lines[3].startswith("| `power` | not yet run")


def test_memory_is_watched_from_outside():
    code = "x = bytearray(b'x') * 80_000_000; import time; time.sleep(0.5)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peaks = large_text._watch(process)
    assert 76 < peaks["allocated"] < 130


def test_a_large_text_is_told_to_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(large_text, "STORIES", 20)
    monkeypatch.setattr(large_text, "cores", lambda: 1)
    written = large_text.write_text(tmp_path / "a.txt", 50_000)
    assert 50_000 <= written == (tmp_path / "a.txt").stat().st_size < 80_000
