"""Every stage on two ranks, none of which has whole weights: the same as on one."""

import pytest
import torch
from safetensors.torch import load_file

from folio.config import merge
from folio.training.run import Run
from ranks import on_ranks
from tuned import make_parent, rows_of, run_of

pytestmark = pytest.mark.multi

NAMES = ("sft", "reward", "dpo", "grpo", "ppo")
# Adam makes whole steps of what rounding leaves of gradients that are all but 0
CALM = {"optim": {"eps": 1e-3}, "log": {"gradients": True}}
CLOCK = ("seconds", "per_second")


def run_stages(folder, parent, batch, parallel):
    """One after the other, as one of the ranks or alone."""
    for name in NAMES:
        changes = {"train": {"batch": batch}, "parallel": parallel}
        if name in ("grpo", "ppo"):  # which learn nothing from an answer like the rest
            judge = parent.with_name("judge")
            changes["reward"] = {"verifier": "none", "model": str(judge)}
        run_of(name, parent, folder / name, **merge(CALM, changes))


@pytest.mark.parametrize("tensor", [1, 2], ids=["fsdp", "tensor"])
def test_stages_on_two_ranks_equal_one(tensor, tmp_path):
    parent = make_parent(tmp_path).folder
    run_of("reward", parent, tmp_path / "judge")
    run_stages(tmp_path / "alone", parent, 2, {})
    parallel = {"kind": "fsdp", "tensor": tensor}
    on_ranks(2, run_stages, tmp_path / "both", parent, tensor, parallel, tensor=tensor)
    for name in NAMES:
        one, other = tmp_path / "alone" / name, tmp_path / "both" / name
        for mine, theirs in zip(rows_of(Run(one)), rows_of(Run(other)), strict=True):
            mine, theirs = (
                {n: x for n, x in row.items() if not any(c in n for c in CLOCK)}
                for row in (mine, theirs)
            )
            assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-5), name
        mine, theirs = (
            load_file(folder / "model/model.safetensors") for folder in (one, other)
        )
        assert max(row.get("grad_norm", 0) for row in rows_of(Run(one))) > 1e-3, name
        for key, x in mine.items():
            torch.testing.assert_close(
                theirs[key], x, rtol=1e-5, atol=1e-5, msg=f"{name} {key}"
            )
