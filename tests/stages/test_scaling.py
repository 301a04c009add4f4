"""`folio scaling`: runs once, foretells before it looks, and records both."""

import json
from dataclasses import astuple
from pathlib import Path

import pytest

from folio.config import UserError
from folio.planning.scaling import Law
from folio.stages import scaling as module
from folio.stages.scaling import make_trials, read_scaling, run_scaling
from folio.training.run import Run
from folio.viz.scaling import figure, law

ROOT = Path(__file__).resolve().parents[2]
FILE = """\
title = "Small"
steps = [2, 3, 5]

[recipe.tokenizer]
kind = "byte"

[recipe.data]
corpus = "tales"
megabytes = 0.02
val_fraction = 0.2

[recipe.model]
max_seq_len = 16
n_layers = 1
n_heads = 1

[recipe.optim]
lr = 0.02

[recipe.train]
batch = 2
device = "cpu"

[sizes.a.model]
d_model = 4

[sizes.b.model]
d_model = 8

[sizes.c.model]
d_model = 16

[verify]
steps = 6

[verify.model]
d_model = 24
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text=FILE):
    Path("small.toml").write_text(text)
    return Path("small.toml")


def run(path):
    said: list[str] = []
    return json.loads(run_scaling(path, say=said.append).read_text()), said


def trained(said):
    return [line.split("] ")[1] for line in said if line.startswith("[")]


def test_a_family_is_run_once_and_the_next_size_foretold():
    record, said = run(write())
    assert len(trained(said)) == 10
    assert trained(said)[-1].startswith("verify")
    foretold = next(i for i, line in enumerate(said) if line.startswith("next:"))
    assert foretold < said.index("[1/1] verify, seed 1")
    points = record["points"]
    assert [p["tokens"] for p in points] == [64] * 3 + [96] * 3 + [160] * 3
    assert points[0]["parameters"] < points[1]["parameters"] < points[2]["parameters"]
    home = Path("runs/scaling/small")
    info = Run(home / "b-3").read_info()
    assert points[4]["loss"] == info["results"]["final_val_loss"]
    assert info["parameters"]["total"] == points[4]["parameters"]
    found = record["prediction"]
    verified = Run(home / "verify-6").read_info()["results"]["final_val_loss"]
    assert found["loss"] == verified
    assert found["relative_error"] == found["predicted"] / verified - 1
    assert found["inside"] == (found["low"] <= verified <= found["high"])
    assert (home / "small.svg").read_text().startswith("<svg xmlns=")
    again, said = run(write())
    assert trained(said) == []
    assert again["points"] == points
    assert again["law"] == record["law"]


def test_the_law_of_the_record_is_that_of_its_points(monkeypatch):
    """Losses that obey a law: it is found, and the next one foretold exactly."""
    known = Law(0.5, 20.0, 0.5, 30.0, 0.4)

    def obedient(trial, vocab_size):
        point = module.size_of(trial, vocab_size)
        return point | {"loss": known.loss(point["parameters"], point["tokens"])}

    monkeypatch.setattr(module, "run_trials", lambda trials, say: None)
    monkeypatch.setattr(module, "point_of", obedient)
    record, _ = run(write())
    assert astuple(Law(**record["law"])) == pytest.approx(astuple(known), rel=1e-3)
    found = record["prediction"]
    assert abs(found["relative_error"]) < 1e-6
    assert law(record, 100.0, 1000.0) == pytest.approx(known.loss(100.0, 1000.0), 1e-5)
    drawing = figure(record)
    assert drawing == figure(json.loads(json.dumps(record)))
    assert "best number of parameters" in drawing
    assert drawing.count("<circle") >= 10


def test_every_run_has_a_schedule_of_its_own():
    trials = make_trials(read_scaling(write()), Path("home"))
    for trial in trials:
        train = trial.recipe.train
        assert train.eval_every == train.steps
        assert trial.folder.name.endswith(f"-{train.steps}")
        assert trial.recipe.data.shards == "home/text-1"
    long = read_scaling(ROOT / "recipes/tiny/scaling.toml")
    warmups = [t.recipe.optim.warmup for t in make_trials(long, Path("home"))]
    assert sorted(set(warmups)) == [70, 120, 200, 340, 480]


def test_our_own_recipe_reads_no_token_twice():
    """At most 3 bytes a token: 4.9 million of them are less than Python's library."""
    trials = make_trials(read_scaling(ROOT / "recipes/tiny/scaling.toml"), Path("home"))
    assert len(trials) == 17
    last = trials[-1].recipe
    assert last.data.corpus == "python"  # whose sources have more than 20 MB
    assert last.train.steps * last.train.batch * last.length * 3 < 20e6
    assert last.model.d_model > max(t.recipe.model.d_model for t in trials[:-1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = [2, 3, 5]", "steps = [2, 3]", "needs three of each"),
        ("[sizes.c.model]\nd_model = 16\n", "", "needs three of each"),
        ("steps = [2, 3, 5]", "steps = [0, 3, 5]", "must be at least 1"),
        ("[verify]\nsteps = 6\n", "", "verify.steps is missing"),
        ("[sizes.c.model]", "[sizes.C.model]", "small letters"),
        ("d_model = 16\n", "d_modle = 16\n", "size 'c': unknown key 'model.d_modle'"),
        ("[sizes.c.model]\nd_model = 16\n", "[sizes]\nc = 3\n", "expected a table"),
        ('title = "Small"', 'titel = "Small"', "did you mean 'title'"),
    ],
)
def test_mistakes_are_named(old, new, message):
    assert old in FILE
    with pytest.raises(UserError, match=message) as error:
        run_scaling(write(FILE.replace(old, new)), say=lambda text: None)
    assert "\n" not in str(error.value)
