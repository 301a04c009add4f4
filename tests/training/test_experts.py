"""Experts in training: routers are nudged after each update, their load recorded."""

import json
import math
import os
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file

from folio.model.config import Experts
from folio.model.moe import routers_of
from folio.objectives.next_token import next_token
from folio.stages.pretrain import pretrain
from folio.training.experts import balance_experts, load_metrics
from folio.training.loop import train
from folio.training.snapshot import (
    newest_snapshot,
    restore,
    save_snapshot,
    snapshot_paths,
)
from helpers import (
    EXPERTS,
    assert_same,
    assert_same_run,
    everything,
    on_two_ranks,
    tiny_learner,
    tiny_model,
    tiny_recipe,
    tiny_stream,
    what_a_run_left,
)

STEPS = 8


def fresh(experts=EXPERTS, figure=None, seen=None):
    """(learner, stream, hooks) as they are at the start of a process."""
    learner = tiny_learner(model=tiny_model(experts=experts, mlp_pattern="de"))
    hooks = [balance_experts(figure, every=2, last=STEPS)]
    hooks.append(
        lambda learner, metrics: (seen if seen is not None else []).append(metrics)
    )
    return learner, tiny_stream(), hooks


def go(learner, stream, hooks, steps=STEPS):
    train(learner, stream, next_token, steps=steps, hooks=hooks)
    return learner


def test_the_load_is_told_by_two_numbers():
    even, collapsed = torch.full((8,), 1 / 8), torch.eye(8)[0]
    metrics = load_metrics({"blocks.0.moe": even, "blocks.2.moe": collapsed})
    assert metrics == {
        "busiest_expert.blocks.0": 0.125,
        "load_variation.blocks.0": 0.0,
        "busiest_expert.blocks.2": 1.0,
        "load_variation.blocks.2": pytest.approx(math.sqrt(7)),
    }
    assert load_metrics({}) == {}


def test_every_update_is_logged_and_nudges_the_biases():
    seen = []
    learner = go(*fresh(seen=seen))
    assert len(seen) == STEPS
    for metrics in seen:
        assert 0.25 <= metrics["busiest_expert.blocks.1"] <= 0.5
        assert metrics["load_variation.blocks.1"] >= 0
        assert "busiest_expert.blocks.0" not in metrics  # a dense layer
    (moe,) = routers_of(learner.model).values()
    steps = moe.router.bias / EXPERTS.bias_rate
    # Each of the updates moved it by one rate up or down, or not at all.
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert steps.abs().max() > 1
    assert steps.abs().max() <= STEPS + 1e-3
    assert not moe.load.any()


def test_the_nudge_goes_against_the_load():
    learner, stream, hooks = fresh()
    loads = []

    def look(learner, metrics):
        (moe,) = routers_of(learner.model).values()
        loads.append((moe.load.clone(), moe.router.bias.clone()))

    train(learner, stream, next_token, steps=1, hooks=[look, *hooks, look])
    (load, before), (_, after) = loads
    assert load.sum() == 2 * 16 * 2  # rows, tokens, experts of each
    moved = (after - before) / EXPERTS.bias_rate
    torch.testing.assert_close(moved, (load.float().mean() - load).sign())


def test_resumed_equals_never_stopped(tmp_path):
    seen, again = [], []
    expected = everything(go(*fresh(figure=tmp_path / "one.json", seen=seen)))

    learner, stream, hooks = fresh(figure=tmp_path / "two.json", seen=again)
    go(learner, stream, hooks, steps=3)
    save_snapshot(tmp_path, learner, {"stream": stream.state_dict()})
    go(learner, stream, hooks, steps=6)  # a future that will be lived again
    del again[3:]

    learner, stream, hooks = fresh(figure=tmp_path / "two.json", seen=again)
    snapshot = newest_snapshot(tmp_path)
    restore(snapshot, learner)
    stream.load_state_dict(snapshot.state["stream"])
    go(learner, stream, hooks)
    assert_same(everything(learner), expected)
    assert again == seen
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_the_figure_has_the_shares_of_some_steps(tmp_path):
    path = tmp_path / "experts.json"
    go(*fresh(figure=path))
    figure = json.loads(path.read_text())
    assert figure["layers"] == ["blocks.1"]
    assert [entry["step"] for entry in figure["steps"]] == [2, 4, 6, 8]
    for entry in figure["steps"]:
        (shares,) = entry["shares"]
        assert len(shares) == 4
        assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_a_softmax_router_has_no_bias_to_nudge():
    seen = []
    learner = go(*fresh(Experts(count=4, active=1, width=8), seen=seen))
    assert "busiest_expert.blocks.1" in seen[-1]
    assert not any("bias" in name for name in learner.model.state_dict())


def test_without_experts_nothing_is_logged(tmp_path):
    learner, seen = tiny_learner(), []
    hook = balance_experts(tmp_path / "experts.json", every=1, last=2)
    note = [hook, lambda learner, metrics: seen.append(metrics)]
    train(learner, tiny_stream(), next_token, steps=2, hooks=note)
    assert not any("expert" in key for key in seen[0])
    assert not (tmp_path / "experts.json").exists()


def silent(text):
    pass


def expert_recipe(folder, **changes):
    model = {"experts": asdict(EXPERTS), "mlp_pattern": "de"}
    log = {"every": 3, "gradients": True}
    return tiny_recipe(folder, model=model, train={"keep": 99}, log=log, **changes)


def test_a_whole_run_resumes_bit_for_bit(tmp_path, monkeypatch):
    """Biases, log and figure too: twelve steps, cut after the fifth."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    recipe, whole, cut = expert_recipe(tmp_path), tmp_path / "whole", tmp_path / "cut"
    pretrain(recipe, whole, say=silent)
    shutil.copytree(whole, cut)
    for path in snapshot_paths(cut / "snapshots")[5:]:
        shutil.rmtree(path)
    torch.manual_seed(99)
    pretrain(recipe, cut, resume=True, say=silent)
    assert_same_run(what_a_run_left(cut), what_a_run_left(whole))
    figures = [(run / "figures/experts.json").read_bytes() for run in (whole, cut)]
    assert figures[0] == figures[1]
    assert len(json.loads(figures[0])["steps"]) == 12
    bias = newest_snapshot(cut / "snapshots").model["blocks.1.moe.router.bias"]
    assert bias.abs().max() > EXPERTS.bias_rate
    row = what_a_run_left(cut)["metrics"][0]
    assert {"busiest_expert.blocks.1", "grad_norm.blocks.0"} <= row.keys()


def test_lora_leaves_the_biases_of_its_parent(tmp_path):
    recipe = expert_recipe(tmp_path)
    pretrain(recipe, tmp_path / "base", say=silent)
    child = expert_recipe(
        tmp_path,
        parent=str(tmp_path / "base"),
        tokenizer={"path": str(tmp_path / "base")},
        lora={"rank": 2},
    )
    run = pretrain(child, tmp_path / "child", say=silent)
    assert not (run.figures / "experts.json").exists()


@pytest.mark.multi
def test_two_ranks_nudge_as_one(tmp_path):
    """Each rank sees half of the tokens; the biases follow the load of all."""
    on_two_ranks(tmp_path, "balance_on_two_ranks")
    biases = [load_file(tmp_path / f"{rank}.st")["bias"] for rank in (0, 1)]
    assert torch.equal(*biases)
    torch.manual_seed(0)
    learner = tiny_learner(model=tiny_model(experts=EXPERTS))
    go(learner, tiny_stream(batch=4), [balance_experts(None, every=0, last=4)], steps=4)
    moe = next(iter(routers_of(learner.model).values()))
    assert torch.equal(moe.router.bias, biases[0])
