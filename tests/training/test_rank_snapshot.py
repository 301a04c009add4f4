"""Snapshots that ranks write together: whole or absent, and read by any of them."""

import errno
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from folio.config import UserError
from folio.runtime import rank
from folio.training import rank_snapshot
from folio.training.parts import part_names
from folio.training.rank_snapshot import prune_together, save_together
from folio.training.snapshot import newest_snapshot, restore, snapshot_paths
from helpers import files_below
from ranks import learn, make_learner, on_ranks, weights

pytestmark = pytest.mark.multi
GROUPED = {"n_heads": 4, "n_kv_heads": 2, "d_ff": 48, "qk_norm": True}


def everything(learner):
    """Weights and optimizer state, whole: as one process would have them."""
    ranks, state = learner.ranks, {}
    for name, parameter in ranks.named_parameters():
        for key, x in learner.optimizer.state.get(parameter, {}).items():
            state[f"{name}.{key}"] = ranks.whole(name, x).clone()
    whole = weights(learner)
    return state | {f"model.{name}": x for name, x in whole.items()} if whole else {}


def save_twice_and_go_on(folder):
    """Save, learn, save; begin anew from there; then meet a full disk."""
    learner = make_learner("fsdp", **GROUPED)
    learn(learner, steps=2)
    save_together(folder, learner, lambda: {"by": rank()})
    learn(learner, steps=1)
    save_together(folder, learner, lambda: {"by": rank()})
    there = everything(learner)
    if rank() == 0:
        save_file(there, folder.with_name("there.st"))
    again = make_learner("fsdp", seed=5, **GROUPED)
    restore(newest_snapshot(folder), again)
    for name, x in everything(again).items():
        assert torch.equal(x, there[name]), name
    assert again.step == 3
    assert learn(again, steps=1) == learn(learner, steps=1)
    fail_on_one(folder, learner)
    learn(learner, steps=1)
    save_together(folder, learner, lambda: {"by": rank()})
    prune_together(folder, 2, best=None)


def fail_on_one(folder, learner):
    """The last rank's disk is full: all say so, and nothing has changed."""
    before, real = files_below(folder), rank_snapshot.write_flushed

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    torch.distributed.barrier()
    if rank() == torch.distributed.get_world_size() - 1:
        rank_snapshot.write_flushed = full
    with pytest.raises(UserError, match="No space left on device; older snapshots"):
        save_together(folder, learner, dict)
    rank_snapshot.write_flushed = real
    torch.distributed.barrier()
    assert files_below(folder) == before


@pytest.mark.parametrize(("world", "tensor"), [(2, 1), (4, 2)])
def test_saved_together_and_read_by_one(world, tensor, tmp_path):
    folder = tmp_path / "snapshots"
    on_ranks(world, save_twice_and_go_on, folder, tensor=tensor)
    newest = snapshot_paths(folder)
    assert [path.name for path in newest] == ["step-00000003", "step-00000005"]
    sizes = [(newest[0] / n).stat().st_size for n in part_names("optim", world)]
    assert max(sizes) < 1.5 * min(sizes)
    assert json.loads((newest[0] / "state.json").read_text())["by"] == 0
    (newest[1] / "state.json").write_text("{}")
    said = []
    snapshot = newest_snapshot(folder, said.append)
    assert len(said) == 1
    learner = make_learner("alone", **GROUPED)
    restore(snapshot, learner)
    there = load_file(tmp_path / "there.st")
    state = dict(snapshot.optimizer)
    assert there.keys() == {*state, *(f"model.{n}" for n in weights(learner))}
    for name, x in there.items():
        mine = state.get(name)
        if mine is None:
            mine = learner.model.state_dict()[name.removeprefix("model.")]
        assert torch.equal(mine, x), name


def pass_over_damage(folder):
    """All ranks come to the same verdict, though one alone reads what is damaged."""
    said = []
    snapshot = newest_snapshot(folder, said.append)
    assert snapshot.path.name == "step-00000003"
    assert part_names("optim", 2)[1] in said[0]


def test_damage_that_one_rank_finds_is_known_to_all(tmp_path):
    folder = tmp_path / "snapshots"
    on_ranks(2, save_twice_and_go_on, folder)
    path = folder / "step-00000005" / part_names("optim", 2)[1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    on_ranks(2, pass_over_damage, folder)
