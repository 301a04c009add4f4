"""A training in a process of its own: started, watched, stopped, resumed, no orphan."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from folio.config import UserError
from folio.stages.parent import load_recipe
from folio.stages.recipe import PretrainRecipe
from folio.studio.runs import Runs
from folio.studio.training import FIELDS, RECIPE, SAVED, Training, flags_of
from folio.training.log import read_rows
from folio.training.run import Run
from folio.training.snapshot import snapshot_paths

SMALL = {
    "train.steps": 3000,
    "model.n_layers": 1,
    "model.d_model": 16,
    "train.batch": 1,
}


@pytest.fixture
def training(tmp_path):
    made = Training(Runs([], tmp_path / "runs"))
    yield made
    made.close()


def until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_the_recipe_holds_every_field_within_its_bounds():
    recipe = load_recipe(PretrainRecipe, RECIPE)
    for field, (_, least, most) in FIELDS.items():
        table, key = field.split(".")
        assert least <= getattr(getattr(recipe, table), key) <= most


def test_fields_become_flags_that_the_recipe_takes():
    values = {field: least for field, (_, least, _) in FIELDS.items()}
    flags = flags_of(values | {"optim.lr": 1e-4})
    recipe = load_recipe(PretrainRecipe, RECIPE, flags)
    assert (recipe.train.steps, recipe.model.d_model) == (10, 16)
    assert recipe.optim.lr == 1e-4


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("train.steps", 9, "steps = 9: must be from 10 to 20,000"),
        ("train.steps", 10.5, "whole number"),
        ("model.d_model", 10**9, "width = 1000000000"),
        ("optim.lr", float("nan"), "learning rate = nan"),
        ("train.batch", None, "batch = None"),
        ("model.n_heads", "; rm -rf", "heads = '; rm -rf'"),
    ],
)
def test_a_field_out_of_bounds_is_named(field, value, words):
    with pytest.raises(UserError, match=words):
        flags_of({field: value})


def test_nothing_to_see_stop_or_resume_at_first(training):
    assert training.state() is None
    with pytest.raises(UserError, match="nothing is being trained"):
        training.stop()
    with pytest.raises(UserError, match="no run that could go on"):
        training.resume("one")
    with pytest.raises(UserError, match="can't be the name"):
        training.start("../x", {})
    assert training.wait() is None


def test_a_run_that_is_there_is_not_written_over(training):
    folder = training.runs.place("mine")
    folder.mkdir(parents=True)
    Run(folder).recipe.write_text("[train]\nsteps = 4\n")
    with pytest.raises(UserError, match="'mine' is a run already"):
        training.start("mine", {})


@pytest.mark.multi
def test_start_watch_stop_and_resume(training):
    training.start("one", SMALL)
    with pytest.raises(UserError, match="'one' is being trained"):
        training.start("two", SMALL)
    run = Run(training.runs.place("one"))
    until(lambda: training.state().view.count("chart-svg") > 1)
    state = training.state()
    assert state.running
    assert not state.can_resume
    assert "Gradient norm" in state.view
    assert "What it writes at step 0" in state.view
    training.stop()
    assert training.wait(60) == SAVED
    stopped = training.state()
    assert (stopped.running, stopped.can_resume) == (False, True)
    assert "Stopped and saved" in stopped.view
    step = int(snapshot_paths(run.snapshots)[-1].name.removeprefix("step-"))
    training.resume("one")
    assert training.running
    until(lambda: read_rows(run.metrics)[-1]["step"] > step)
    training.stop()
    assert training.wait(60) == SAVED
    assert int(snapshot_paths(run.snapshots)[-1].name.removeprefix("step-")) >= step


@pytest.mark.multi
def test_a_stop_while_it_is_still_starting_is_not_missed(training):
    training.start("one", SMALL)
    training.stop()
    assert training.wait(60) == SAVED
    assert "stopped before it had learned anything" in training.state().view


@pytest.mark.multi
def test_what_fails_is_said_in_its_own_words(training):
    training.start("one", {**SMALL, "model.d_model": 17, "model.n_heads": 4})
    assert training.wait(60) == 2
    assert "one failed: folio: " in training.state().view


STUDIO = """\
import sys, time
from pathlib import Path
from folio.studio.runs import Runs
from folio.studio.training import Training
training = Training(Runs([], Path(sys.argv[1])))
training.start("one", {"train.steps": 20000, "model.n_layers": 1, "model.d_model": 16})
print(training._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.multi
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_training_outlives_its_studio(tmp_path, end):
    command = [sys.executable, "-c", STUDIO, str(tmp_path)]
    studio = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    child, run = int(studio.stdout.readline()), Run(tmp_path / "one")
    until(lambda: run.metrics.is_file() and run.metrics.stat().st_size > 0)
    studio.send_signal(end)
    studio.wait(60)
    until(lambda: not is_running(child))
    assert run.read_info()["status"] == "interrupted"
    assert snapshot_paths(run.snapshots)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")  # where there is one, it knows zombies
    return not stat.is_file() or ") Z " not in stat.read_text()
