"""What the loop asks of the other ranks, alone and with another one."""

import os
import subprocess
import sys

import pytest
import torch

from folio.runtime import anyone
from folio.training.parallel import spread, sum_over_ranks
from folio.training.snapshot import newest_snapshot
from helpers import free_port, on_two_ranks, rows, tiny_model, write_recipe


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


def folio_on_ranks(world: int, *arguments: object) -> list[subprocess.CompletedProcess]:
    """One command on `world` ranks, started as torchrun starts them."""
    port = free_port()
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "folio", *map(str, arguments)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    done = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        done.append(
            subprocess.CompletedProcess(process.args, process.returncode, out, err)
        )
    return done


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


@pytest.mark.multi
def test_a_mistake_ends_both_ranks_with_one_line(tmp_path):
    recipe = write_recipe(tmp_path, text="too short")
    for done in folio_on_ranks(2, "pretrain", recipe, "--run", tmp_path / "run"):
        assert done.returncode == 2
        lines = [x for x in done.stderr.splitlines() if not x.startswith("[rank")]
        assert len(lines) == 1, done.stderr
