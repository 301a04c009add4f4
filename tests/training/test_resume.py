"""A run that was interrupted ends exactly as if it had not been."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from folio.config import UserError
from folio.stages.pretrain import pretrain
from folio.training import hooks
from folio.training.snapshot import newest_snapshot, snapshot_paths
from helpers import assert_same_run, rows, tiny_recipe, what_a_run_left

STEPS = 12


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """What reaches the disk when is another test's matter; here it only costs time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def run(recipe, folder: Path, **options):
    said: list[str] = []
    pretrain(recipe, folder, say=said.append, **options)
    return said


def only_up_to(source: Path, folder: Path, step: int) -> Path:
    """A copy of a run as if it had been killed on its way from `step` on.

    What was written after the snapshot is still there, its last line torn.
    """
    shutil.copytree(source, folder)
    for path in snapshot_paths(folder / "snapshots"):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    for name in ("metrics.jsonl", "samples.jsonl"):
        with open(folder / name, "ab") as file:
            file.write('{"step": 99, "text": "the miller’s'.encode()[:-1])
    return folder


@pytest.mark.parametrize(
    ("precision", "cuts"),
    [("fp32", range(STEPS + 1)), ("bf16", (1, 7)), ("fp16", (1, 6, 11))],
)
def test_resumed_at_any_step_equals_never_stopped(tmp_path, precision, cuts):
    """Dropout is on and four micro-batches are accumulated."""
    train = {"precision": precision, "keep": 99}
    recipe = tiny_recipe(tmp_path, train=train)
    assert recipe.train.accumulate == 4
    assert recipe.model.dropout > 0
    run(recipe, tmp_path / "whole")
    expected = what_a_run_left(tmp_path / "whole")
    assert len(expected["snapshots"]) == STEPS == len(expected["metrics"]) + 5
    for step in cuts:
        folder = only_up_to(tmp_path / "whole", tmp_path / f"cut-{step}", step)
        torch.manual_seed(step)  # wherever the generators stand in the new process
        said = run(recipe, folder, resume=True)
        where = f"step-{step:08d}" if step else "no snapshot yet"
        assert any(where in line for line in said)
        assert_same_run(what_a_run_left(folder), expected)


def test_the_log_and_samples_really_differ_with_the_step(tmp_path):
    """Otherwise the test above would prove nothing."""
    recipe = tiny_recipe(tmp_path, optim={"lr": 0.02})
    run(recipe, tmp_path / "run")
    metrics = rows(tmp_path / "run/metrics.jsonl")
    losses = [row["loss"] for row in metrics if "loss" in row]
    texts = [row["text"] for row in rows(tmp_path / "run/samples.jsonl")]
    assert len(set(losses)) == len(losses) == STEPS // 3
    assert len(set(texts)) > 1
    state = newest_snapshot(tmp_path / "run/snapshots").state
    assert state["stream"]["index"] == STEPS * 2 * 4


@pytest.mark.parametrize("forgotten", ["rng", "stream", "optimizer", "sums"])
def test_whatever_is_forgotten_is_noticed(tmp_path, monkeypatch, forgotten):
    """The check checked: leave one thing out of the snapshot, and runs differ."""
    from folio.stages import assemble as stage

    recipe = tiny_recipe(tmp_path, train={"keep": 99})
    run(recipe, tmp_path / "whole")
    expected = what_a_run_left(tmp_path / "whole")
    real = stage.restore

    def forgetful(snapshot, learner):
        generators, optimizer = torch.get_rng_state(), learner.optimizer.state
        if forgotten == "stream":
            snapshot.state["stream"]["index"] = 0
        if forgotten == "sums":
            snapshot.state["progress"] |= {"sums": {}, "counts": {}}
        before = dict(optimizer)
        real(snapshot, learner)
        if forgotten == "rng":
            torch.set_rng_state(generators)
        if forgotten == "optimizer":
            learner.optimizer.state.clear()
            learner.optimizer.state.update(before)

    monkeypatch.setattr(stage, "restore", forgetful)
    folder = only_up_to(tmp_path / "whole", tmp_path / "cut", 5)
    run(recipe, folder, resume=True)
    with pytest.raises(AssertionError):
        assert_same_run(what_a_run_left(folder), expected)


def test_a_damaged_newest_snapshot_is_named_and_the_run_ends_the_same(tmp_path):
    recipe = tiny_recipe(tmp_path, train={"keep": 3})
    run(recipe, tmp_path / "whole")
    expected = what_a_run_left(tmp_path / "whole")
    newest = tmp_path / f"whole/snapshots/step-{STEPS:08d}"
    (newest / "optim.safetensors").write_bytes(b"rot")
    said = run(recipe, tmp_path / "whole", resume=True)
    assert any(f"{newest} is damaged: optim.safetensors" in line for line in said)
    assert f"going on from step-{STEPS - 1:08d}" in said
    assert_same_run(what_a_run_left(tmp_path / "whole"), expected)


def test_if_all_are_damaged_the_log_is_not_thrown_away(tmp_path):
    recipe = tiny_recipe(tmp_path)
    run(recipe, tmp_path / "run")
    log = rows(tmp_path / "run/metrics.jsonl")
    for path in snapshot_paths(tmp_path / "run/snapshots"):
        (path / "state.json").unlink()
    with pytest.raises(UserError, match="no other is left"):
        run(recipe, tmp_path / "run", resume=True)
    assert rows(tmp_path / "run/metrics.jsonl") == log


def test_a_finished_run_resumed_stays_as_it_is(tmp_path):
    recipe = tiny_recipe(tmp_path)
    run(recipe, tmp_path / "run")
    before = what_a_run_left(tmp_path / "run")
    run(recipe, tmp_path / "run", resume=True)
    assert_same_run(what_a_run_left(tmp_path / "run"), before)
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"


def test_a_longer_run_goes_on_and_says_so(tmp_path, capsys):
    run(tiny_recipe(tmp_path, optim={"schedule": "constant"}), tmp_path / "run")
    longer = {"optim": {"schedule": "constant"}, "train": {"steps": STEPS + 3}}
    run(tiny_recipe(tmp_path, **longer), tmp_path / "run", resume=True)
    change = f"train.steps was {STEPS} and is now {STEPS + 3}"
    notes = json.loads((tmp_path / "run/run.json").read_text())["notes"]
    assert notes == [f"resumed with a change: {change}"]
    run(tiny_recipe(tmp_path, **longer), tmp_path / "once")
    one, other = (what_a_run_left(tmp_path / name) for name in ("run", "once"))
    assert torch.equal(
        one["tensors"]["model.embedding.weight"],
        other["tensors"]["model.embedding.weight"],
    )


def test_the_schedule_goes_on_where_it_was(tmp_path):
    """A restart of the warm-up would show in the learning rate of the next row."""
    recipe = tiny_recipe(tmp_path, log={"every": 1}, train={"keep": 99})
    run(recipe, tmp_path / "whole")
    rates = [r["lr"] for r in rows(tmp_path / "whole/metrics.jsonl") if "lr" in r]
    peak = recipe.optim.lr
    assert rates[0] == pytest.approx(peak / 4)
    assert max(rates) <= peak
    assert rates[4:] == sorted(rates[4:], reverse=True)
    folder = only_up_to(tmp_path / "whole", tmp_path / "cut", 7)
    run(recipe, folder, resume=True)
    assert [r["lr"] for r in rows(folder / "metrics.jsonl") if "lr" in r] == rates


def test_watching_does_not_disturb_what_is_watched(tmp_path):
    """With and without evaluation, samples, attention and saves: the same weights."""
    watched = tiny_recipe(tmp_path, train={"eval_every": 1}, sample={"every": 1})
    alone = {"eval_every": 0, "save_every": STEPS}
    unwatched = tiny_recipe(tmp_path, train=alone, sample={"every": 0})
    run(watched, tmp_path / "watched")
    run(unwatched, tmp_path / "unwatched")
    one, other = (
        newest_snapshot(tmp_path / name / "snapshots")
        for name in ("watched", "unwatched")
    )
    for part in ("model", "optimizer", "rng"):
        tensors = getattr(other, part)
        for name, tensor in getattr(one, part).items():
            assert torch.equal(tensor, tensors[name]), name
    assert len(rows(tmp_path / "watched/samples.jsonl")) == STEPS + 1
    assert not (tmp_path / "unwatched/samples.jsonl").exists()


def test_dropout_is_what_makes_these_tests_sharp(tmp_path):
    """Another seed of dropout alone gives other weights."""
    recipe = tiny_recipe(tmp_path)
    run(recipe, tmp_path / "one")
    real = hooks.Clock.read

    def stir(clock):  # called once a step, by the log
        torch.rand(1)
        return real(clock)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks.Clock, "read", stir)
        run(recipe, tmp_path / "other")
    one, other = (
        newest_snapshot(tmp_path / name / "snapshots").model["embedding.weight"]
        for name in ("one", "other")
    )
    assert not torch.equal(one, other)
