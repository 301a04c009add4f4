"""Muon: even steps in all directions of a matrix; AdamW for everything else."""

import math

import pytest
import torch
from torch import nn

from folio.config import UserError
from folio.model.lora import LoRA, add_lora
from folio.objectives.next_token import next_token
from folio.optim.adamw import adamw
from folio.optim.muon import Muon, muon, orthogonalized
from folio.training.learner import Learner
from folio.training.snapshot import newest_snapshot, restore, save_snapshot
from helpers import (
    BALANCED,
    assert_same,
    everything,
    losses,
    tiny_model,
    tiny_stream,
)


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24), (3, 16, 8)])
def test_the_result_turns_as_the_matrix_does_and_stretches_nothing(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    u, singular, vh = torch.linalg.svd(x, full_matrices=False)
    found = orthogonalized(x)
    stretched = (u.mT @ found @ vh.mT).diagonal(dim1=-2, dim2=-1)
    large = singular > 0.01 * singular.amax(-1, keepdim=True)
    assert stretched[large].min() > 0.85
    assert stretched[large].max() < 1.15
    turned = u @ torch.diag_embed(stretched) @ vh
    torch.testing.assert_close(found, turned)  # nothing else has been added


def test_size_does_not_matter_and_nothing_stays_nothing():
    x = torch.randn(6, 4)
    torch.testing.assert_close(
        orthogonalized(1e-3 * x), orthogonalized(x), rtol=1e-3, atol=1e-3
    )
    assert (orthogonalized(torch.zeros(4, 4)) == 0).all()


def test_matrices_of_blocks_are_its_own_and_all_else_is_adamws():
    model = tiny_model(experts=BALANCED)
    named = {
        name: group["muon"]
        for group in muon(model).param_groups
        for name in group["names"]
    }
    assert set(named) == set(dict(model.named_parameters()))
    for name, parameter in model.named_parameters():
        wanted = name.startswith("blocks.") and parameter.ndim >= 2
        assert named[name] == wanted, name
    assert any(named.values())
    assert not all(named.values())


def test_one_step_is_the_longhand():
    """Momentum, the look ahead, the polynomials, decay and the size of the step."""
    matrix = nn.Parameter(torch.randn(6, 4))
    group = {"params": [matrix], "names": ["m"], "muon": True, "weight_decay": 0.5}
    optimizer = Muon([group], lr=0.1, momentum=0.9)
    before, mean = matrix.detach().clone(), torch.zeros(6, 4)
    for _ in range(3):
        matrix.grad = torch.randn(6, 4)
        mean = 0.9 * mean + 0.1 * matrix.grad
        ahead = 0.1 * matrix.grad + 0.9 * mean
        step = 0.2 * math.sqrt(6) * orthogonalized(ahead)
        before = before * (1 - 0.1 * 0.5) - 0.1 * step
        optimizer.step()
    torch.testing.assert_close(matrix.detach(), before)


def test_a_step_is_about_as_large_as_adamws():
    matrix = nn.Parameter(torch.zeros(64, 256))
    matrix.grad = torch.randn(64, 256)
    group = {"params": [matrix], "names": ["m"], "muon": True, "weight_decay": 0.0}
    Muon([group], lr=1.0, momentum=0.95).step()
    assert matrix.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.1)


def test_the_others_go_as_with_adamw():
    both = [tiny_model(3), tiny_model(3)]
    optimizers = [muon(both[0], 1e-2), adamw(both[1], 1e-2)]
    for seed in range(2):
        for model in both:
            make = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=make)
        for optimizer in optimizers:
            optimizer.step()
    for (name, one), other in zip(
        both[0].named_parameters(), both[1].parameters(), strict=True
    ):
        mine = name.startswith("blocks.") and one.ndim >= 2
        assert torch.equal(one, other) != mine, name


def test_without_a_gradient_nothing_moves():
    model = tiny_model()
    optimizer, before = muon(model), [p.clone() for p in model.parameters()]
    optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))


def test_a_snapshot_holds_its_state(tmp_path):
    def fresh():
        model = tiny_model(0)
        return Learner(model, muon(model, 0.02))

    straight, stream = fresh(), tiny_stream()
    found = losses(straight, stream, 6)
    stopped, stream = fresh(), tiny_stream()
    losses(stopped, stream, 3)
    save_snapshot(tmp_path, stopped, {"stream": stream.state_dict()})
    resumed, stream = fresh(), tiny_stream()
    snapshot = newest_snapshot(tmp_path)
    restore(snapshot, resumed)
    stream.load_state_dict(snapshot.state["stream"])
    assert losses(resumed, stream, 3) == found[3:]
    assert_same(everything(resumed), everything(straight))


def test_low_rank_updates_are_left_to_adamw():
    model = tiny_model()
    add_lora(model, LoRA())
    with pytest.raises(UserError, match="no matrix inside of a block is trained"):
        muon(model)


def test_a_momentum_that_can_t_be_is_refused():
    with pytest.raises(UserError, match=r"momentum = 1\.0: must lie in \[0, 1\)"):
        muon(tiny_model(), momentum=1.0)


def test_it_learns():
    model, batch = tiny_model(), next(tiny_stream(batch=8))
    learner = Learner(model, muon(model, 0.02))
    found = [learner.update([batch], next_token)["loss"] for _ in range(20)]
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("seed", range(3))
def test_bf16_leads_no_direction_astray(seed):
    """Shrunk once at the beginning, some singular values end above 2."""
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(128, 128, generator=make).bfloat16()
    assert torch.linalg.svdvals(orthogonalized(x).float()).max() < 1.2


def test_rounds_that_there_are_not_are_refused():
    with pytest.raises(UserError, match="rounds = 6: from 1 to 5"):
        muon(tiny_model(), rounds=6)
