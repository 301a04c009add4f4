"""Ctrl-C and SIGTERM: finish the step, save, leave with 130, and go on later."""

import json
import os
import signal
from pathlib import Path

import pytest

from folio.stages.pretrain import pretrain
from folio.training.signals import Interrupted, stop_on_signal
from folio.training.snapshot import snapshot_paths
from helpers import (
    assert_same_run,
    start_folio,
    tiny_recipe,
    wait_for,
    what_a_run_left,
    write_recipe,
)

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_asks_and_the_handlers_come_back(number):
    before = [signal.getsignal(each) for each in BOTH]
    with stop_on_signal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert [signal.getsignal(each) for each in BOTH] == before
    assert [signal.getsignal(each) for each in BOTH] == before


@pytest.fixture
def usual_ctrl_c():
    """In a job in the background it may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_ctrl_c_interrupts_at_once(usual_ctrl_c):
    with stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_asked_at_any_step_the_run_saves_there_and_ends_the_same(tmp_path, monkeypatch):
    """Not only at the steps that are due: `save_every` is far away."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    recipe = tiny_recipe(tmp_path, train={"save_every": 12, "steps": 12})
    pretrain(recipe, tmp_path / "whole", say=lambda line: None)
    expected = what_a_run_left(tmp_path / "whole")

    def quitting(model, tokenizer):
        if not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return {}

    for every in (1, 5):
        asked: list = []
        folder = tmp_path / f"cut-{every}"
        # `eval_every` only to be called; the second part has the recipe's own
        with pytest.raises(Interrupted, match=f"stopped at step {every}, saved"):
            pretrain(
                tiny_recipe(tmp_path, train={"save_every": 12, "eval_every": every}),
                folder,
                also_measure=quitting,
                say=lambda line: None,
            )
        (path,) = snapshot_paths(folder / "snapshots")
        assert path.name == f"step-{every:08d}"
        assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
        again = tiny_recipe(tmp_path, train={"save_every": 12, "eval_every": every})
        pretrain(again, folder, resume=True, say=lambda line: None)
        left = what_a_run_left(folder)
        for name, tensor in expected["tensors"].items():
            assert (left["tensors"][name] == tensor).all()
        assert left["samples"] == expected["samples"]


STEPS = 80  # many enough that a signal comes in time
OPTIONS = {"steps": STEPS, "save_every": STEPS, "eval_every": 40, "accumulate": 1}


def stopped_process(folder: Path, number: int) -> int:
    """Train in a process, send it a signal; the step at which it saved and left."""
    flags = [f"--train.{key}={value}" for key, value in OPTIONS.items()]
    recipe = write_recipe(folder.parent)
    process = start_folio(
        "pretrain", recipe, "--run", folder, "--sample.every=40", *flags
    )
    log = folder / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    last = err.splitlines()[-1]
    assert last.startswith("folio: stopped at step ")
    assert last.endswith("saved; --resume goes on from here")
    assert "Traceback" not in err
    (saved,) = snapshot_paths(folder / "snapshots")
    step = int(saved.name.removeprefix("step-"))
    assert 0 < step < STEPS
    return step


def test_a_real_process_saves_and_exits_with_130(tmp_path):
    stopped_process(tmp_path / "run", signal.SIGTERM)


def test_a_real_process_resumes_exactly(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    step = stopped_process(folder, signal.SIGINT)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    recipe = tiny_recipe(tmp_path, train=OPTIONS, sample={"every": 40})
    pretrain(recipe, folder, resume=True, say=lambda line: None)
    pretrain(recipe, tmp_path / "whole", say=lambda line: None)
    left, whole = what_a_run_left(folder), what_a_run_left(tmp_path / "whole")
    assert left["snapshots"] == [f"step-{step:08d}", *whole.pop("snapshots")]
    left.pop("snapshots")
    assert_same_run(left, whole)
