"""`folio profile`: the parts add up to the step, and nothing is in the wrong place."""

import json

import pytest

from folio.config import UserError, load_recipe
from folio.stages.profile import PARTS, PASSES, matmul_peak, profile_training
from folio.stages.recipe import PretrainRecipe
from helpers import run_cli

RECIPE = """
name = "watched"
[tokenizer]
kind = "byte"
[data]
corpus = "tales"
megabytes = 0.02
val_fraction = 0.2
[model]
max_seq_len = 32
d_model = 64
n_layers = 2
n_heads = 2
[train]
batch = 4
device = "cpu"
[sample]
every = 0
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "watched.toml").write_text(RECIPE)
    return tmp_path


def profiled(home, *flags, steps=2):
    recipe = load_recipe(PretrainRecipe, home / "watched.toml", flags)
    return profile_training(recipe, steps, home / "out", lambda text: None)


def seconds(found, part):
    return sum(found["parts"][part][way] for way in PASSES)


def test_the_parts_add_up(home):
    found = profiled(home)
    total = sum(seconds(found, part) for part in found["parts"])
    assert 0.5 * found["watched_seconds_per_step"] < total
    assert total < 1.1 * found["watched_seconds_per_step"]
    for part in PARTS:
        assert seconds(found, part) > 0, part
    assert seconds(found, "other") < 0.5 * total
    for part in ("attention", "mlp", "norm", "head and loss"):
        row = found["parts"][part]
        assert row["backward"] > 0.1 * row["forward"] > 0, part
        assert row["again"] == 0
        assert row["kept_bytes"] > 0
    assert found["parts"]["optimizer"]["backward"] == 0


def test_what_is_computed_again_is_told_apart(home):
    found = profiled(home, "--train.checkpoint_layers", "true")
    for part in ("attention", "mlp", "norm"):
        assert found["parts"][part]["again"] > 0, part
    assert found["parts"]["head and loss"]["again"] == 0


def test_speed_and_memory(home):
    found = profiled(home)
    tokens = 4 * 32
    assert found["tokens_per_second"] == pytest.approx(
        tokens / found["seconds_per_step"]
    )
    assert 0 < found["mfu"] < 1
    assert found["mfu"] == pytest.approx(
        found["flops_per_step"]
        / found["seconds_per_step"]
        / found["matmul_flops_per_second"]
    )
    assert found["peak_bytes"] == pytest.approx(found["planned_peak_bytes"], rel=0.1)
    assert found["operations"][0]["seconds"] >= found["operations"][1]["seconds"]


def test_the_verb_leaves_a_trace(home, capsys, monkeypatch):
    monkeypatch.setattr(
        "folio.stages.profile.matmul_peak", lambda device, precision: (1e12, 512)
    )
    command = ["profile", "watched.toml", "--steps", 1, "--train.accumulate", 2]
    status, out, err = run_cli(capsys, *command)
    assert status == 0, err
    folder = home / "runs/profile-watched"
    found = json.loads((folder / "profile.json").read_text())
    assert found["matmul_flops_per_second"] == 1e12
    trace = json.loads((folder / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"folio: attention", "folio: head and loss", "folio: data"} <= names
    assert "tokens/s" in out
    assert "head and loss" in out


def test_the_peak_is_that_of_the_best_size(monkeypatch):
    import torch

    speeds = {512: 1.0, 1024: 3.0, 2048: 2.0}
    monkeypatch.setattr(
        "folio.stages.profile.matmul_speed", lambda size, *rest: speeds[size]
    )
    assert matmul_peak(torch.device("cpu"), "fp32") == (3.0, 1024)


def test_mistakes(home):
    with pytest.raises(UserError, match="--steps = 0: must be at least 1"):
        profiled(home, steps=0)
    with pytest.raises(UserError, match="parent = 'x': a profile needs no weights"):
        profiled(home, "--parent", "x")
    assert not (home / "out").exists()
