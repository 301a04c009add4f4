"""What the loop asks of the other ranks, alone and with another one."""

import os
import subprocess
import sys

import pytest
import torch

from folio.runtime import anyone
from folio.training.parallel import spread, sum_over_ranks
from folio.training.snapshot import newest_snapshot, snapshot_paths
from helpers import (
    free_port,
    on_two_ranks,
    rows,
    tale,
    tiny_model,
    wait_for,
    write_recipe,
)


def test_alone_nothing_is_wrapped_or_sent():
    model = tiny_model()
    values = torch.ones(2)
    ranks = spread(model)
    assert ranks.forward is ranks.module is ranks.model is model
    assert sum_over_ranks(values) is values
    assert anyone(True)
    assert not anyone(False)


@pytest.mark.multi
def test_a_bad_loss_on_one_rank_stops_all(tmp_path):
    on_two_ranks(tmp_path, "fail_on_one_rank")
    for rank in (0, 1):
        assert (tmp_path / f"{rank}.txt").read_text().startswith("step 2: loss nan")


def start_ranks(world: int, *arguments: object) -> list[subprocess.Popen]:
    """One command on `world` ranks, as torchrun starts them; one is started plainly."""
    shared = {**os.environ, "OMP_NUM_THREADS": "1"}
    if world > 1:
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared |= {"WORLD_SIZE": str(world)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "folio", *map(str, arguments)],
            env=shared
            | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finished(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """What came of it; fails if it doesn't end."""
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def folio_on_ranks(world: int, *arguments: object) -> list[subprocess.CompletedProcess]:
    """`start_ranks` to the end."""
    return [finished(process) for process in start_ranks(world, *arguments)]


@pytest.mark.multi
def test_pretrain_on_two_ranks_resumes_and_equals_one(tmp_path):
    recipe = write_recipe(tmp_path)
    alone, both = tmp_path / "alone", tmp_path / "both"
    still = ["--model.dropout", 0]  # its masks depend on the shape of a batch
    for folder, ranks, batch, steps in (
        (alone, 1, 4, 12),
        (both, 2, 2, 7),
        (both, 2, 2, 12),
    ):
        options = [recipe, "--run", folder, "--train.batch", batch, *still]
        options += ["--train.steps", steps, "--optim.schedule", "constant"]
        options += ["--resume"] if steps == 12 else []
        for done in folio_on_ranks(ranks, "pretrain", *options):
            assert done.returncode == 0, done.stderr
    one, other = (rows(folder / "metrics.jsonl") for folder in (alone, both))
    losses = [[r["loss"] for r in part if "loss" in r][-1] for part in (one, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    one, other = (newest_snapshot(f / "snapshots") for f in (alone, both))
    for name, tensor in one.model.items():
        torch.testing.assert_close(other.model[name], tensor, rtol=2e-3, atol=2e-3)


FSDP = ("--parallel.kind", "fsdp")
SMALL = ("--model.dropout", 0, "--model.n_heads", 4, "--optim.schedule", "constant")


def complaints(done: subprocess.CompletedProcess) -> list[str]:
    """What a process says on standard error, without the noise of its libraries."""
    lines = done.stderr.splitlines()
    return [x for x in lines if x.startswith(("folio:", "Traceback"))]


@pytest.mark.multi
@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("too short", (), "the text has"),
        (None, ("--parallel.kind", "zero"), "parallel.kind"),
        (None, (*FSDP, "--parallel.tensor", 3), "parallel.tensor = 3: must divide"),
        (None, ("--parallel.tensor", 2), 'needs parallel.kind = "fsdp"'),
        (
            None,
            (*FSDP, "--parallel.tensor", 2, "--model.n_kv_heads", 1),
            "model.n_kv_heads = 1: can't be cut into parallel.tensor = 2",
        ),
        (None, (*FSDP, "--optim.kind", "muon"), "optim.kind = 'muon': not with"),
        (None, ("--train.device", "cuda"), "device 'cuda' is not available here"),
        (tale(1), (), "2 processes are to share 1 windows of 16 tokens"),
        (None, ("--data.path", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_a_mistake_ends_all_ranks_with_one_line_of_one(text, flags, message, tmp_path):
    if flags[:2] == ("--train.device", "cuda") and torch.cuda.is_available():
        pytest.skip("there is one")
    recipe = write_recipe(tmp_path, text=text)
    run = tmp_path / "run"
    both = folio_on_ranks(2, "pretrain", recipe, "--run", run, *flags)
    assert [done.returncode for done in both] == [2, 2]
    said = [line for done in both for line in complaints(done)]
    assert len(said) == 1, [done.stderr for done in both]
    assert message in said[0]
    assert not list(run.glob("*")) or set(os.listdir(run)) == {".lock"}


@pytest.mark.multi
def test_one_two_four_and_one_process_continue_one_curve(tmp_path):
    recipe = write_recipe(tmp_path)
    alone, many = tmp_path / "alone", tmp_path / "many"

    def go(folder, ranks, batch, steps, *flags):
        options = [recipe, "--run", folder, *SMALL, "--train.steps", steps]
        options += ["--train.batch", batch, "--train.accumulate", 2]
        options += ["--train.save_every", 4, "--log.every", 1, *flags]
        for done in folio_on_ranks(ranks, "pretrain", *options):
            assert done.returncode == 0, done.stderr
            assert complaints(done) == []

    go(alone, 1, 4, 16)
    go(many, 1, 4, 4)
    go(many, 2, 2, 8, "--resume", *FSDP)
    go(many, 4, 2, 12, "--resume", *FSDP, "--parallel.tensor", 2)
    go(many, 1, 4, 16, "--resume")
    one, other = (
        [
            row
            for row in rows(folder / "metrics.jsonl")
            if row["step"] % 4 or "loss" in row
        ]
        for folder in (alone, many)
    )
    assert len(one) == 16
    for mine, theirs in zip(one, other, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5)
    one, other = (newest_snapshot(f / "snapshots") for f in (alone, many))
    assert one.state["stream"] == other.state["stream"]
    for name, tensor in one.model.items():
        torch.testing.assert_close(other.model[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.multi
def test_an_update_may_not_change_its_size_on_the_way(tmp_path):
    recipe = write_recipe(tmp_path)
    options = ["pretrain", recipe, "--run", tmp_path / "run", "--train.steps"]
    assert folio_on_ranks(1, *options, 1)[0].returncode == 0
    before = (tmp_path / "run/recipe.toml").read_text()
    both = folio_on_ranks(2, *options, 2, "--resume")
    said = [line for done in both for line in complaints(done)]
    assert [done.returncode for done in both] == [2, 2]
    assert len(said) == 1
    assert "has 8 rows, and would now have 16" in said[0]
    assert (tmp_path / "run/recipe.toml").read_text() == before


@pytest.mark.multi
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("flags", [(), FSDP], ids=["ddp", "fsdp"])
def test_killing_a_rank_ends_the_other_and_the_run_goes_on(victim, flags, tmp_path):
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    options = ["pretrain", recipe, "--run", run, *SMALL, "--train.save_every", 5]
    long = ["--train.steps", 100_000, "--train.eval_every", 0, "--sample.every", 0]
    both = start_ranks(2, *options, *long, *flags)
    wait_for(lambda: snapshot_paths(run / "snapshots"))
    both[victim].kill()
    left = finished(both[1 - victim])
    finished(both[victim])
    assert left.returncode == 2
    (line,) = complaints(left)
    assert "another process of this run has ended" in line
    step = int(snapshot_paths(run / "snapshots")[-1].name[5:])
    short = ["--train.steps", step + 2, "--train.eval_every", 0, "--sample.every", 0]
    for done in folio_on_ranks(2, *options, *short, *flags, "--resume"):
        assert done.returncode == 0, done.stderr
    assert newest_snapshot(run / "snapshots").state["learner"]["step"] == step + 2
