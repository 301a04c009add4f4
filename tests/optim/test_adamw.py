"""AdamW as written out is AdamW as torch has it, over many steps."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from folio.config import UserError
from folio.model.config import gpt2_like
from folio.model.decoder import Decoder
from folio.optim.adamw import AdamW, adamw, adamw_step


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.8, 0.999), (0.0, 0.0)])
@pytest.mark.parametrize("fused", [True, False])
def test_the_step_is_torchs_for_many_steps(fused, betas, weight_decay):
    generator = torch.Generator().manual_seed(0)

    def normal() -> torch.Tensor:
        return torch.randn(7, 5, generator=generator, dtype=torch.float64)

    ours = normal()
    theirs = nn.Parameter(ours.clone())
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    fixed = {"betas": betas, "eps": 1e-8, "weight_decay": weight_decay}
    optimizer = torch.optim.AdamW([theirs], lr=0.1, fused=fused, **fixed)
    for step in range(1, 201):
        gradient = normal() * 10.0 ** (step % 7 - 3)  # of very different sizes
        lr = 0.1 / step  # a schedule runs along
        adamw_step(ours, gradient, mean, square, step, lr=lr, **fixed)
        optimizer.param_groups[0]["lr"] = lr
        theirs.grad = gradient
        optimizer.step()
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_model_trained_with_adamw_follows_the_written_step():
    torch.manual_seed(0)
    config = gpt2_like(vocab_size=11, max_seq_len=6, d_model=8, n_layers=1, n_heads=2)
    model = Decoder(config)
    optimizer = adamw(model, lr=1e-2, weight_decay=0.5)
    ours = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = {
        name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in ours.items()
    }
    generator = torch.Generator().manual_seed(1)
    for step in range(1, 31):
        tokens = torch.randint(11, (4, 7), generator=generator)
        logprobs = model(tokens[:, :-1], targets=tokens[:, 1:]).logprobs
        optimizer.zero_grad()
        (-logprobs.mean()).backward()
        for name, parameter in model.named_parameters():
            adamw_step(
                ours[name],
                parameter.grad,
                *state[name],
                step,
                lr=1e-2,
                weight_decay=0.5 if parameter.dim() > 1 else 0.0,
            )
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(ours[name], parameter, rtol=1e-4, atol=1e-6), name


def test_decay_is_decoupled_from_the_gradient():
    parameter = torch.full((3,), 2.0)
    zeros = torch.zeros(3)
    adamw_step(
        parameter, zeros, zeros.clone(), zeros.clone(), 1, lr=0.1, weight_decay=0.5
    )
    assert parameter.tolist() == pytest.approx([2.0 * (1 - 0.1 * 0.5)] * 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lr": 0.0}, "lr = 0.0"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"eps": 0.0}, "eps = 0.0"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1"),
        ({"betas": (1.0, 0.95)}, r"betas = \(1.0, 0.95\)"),
        ({"betas": (0.9, -0.1)}, r"betas = \(0.9, -0.1\)"),
    ],
)
def test_impossible_settings_are_named(fields, words):
    with pytest.raises(UserError, match=words):
        adamw(nn.Linear(2, 2), **fields)


def test_it_is_torchs_to_the_last_bit_and_so_is_its_state():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "fused": True}
    mine = AdamW(ours.parameters(), **options)
    other = torch.optim.AdamW(theirs.parameters(), **options)
    for _ in range(4):
        x = torch.randn(7, 5)
        for model, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        mine.load_state_dict(mine.state_dict())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(mine.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_step_does_not_import_the_compiler():
    """That would take a second of every training."""
    code = """
import sys, torch
from folio.optim.muon import Muon
from folio.stages import pretrain
weight = torch.nn.Parameter(torch.ones(3, 3))
groups = [{"params": [weight], "names": ["w"], "muon": True, "weight_decay": 0.0}]
groups += [{"params": [torch.nn.Parameter(torch.ones(3))], "names": ["b"]}]
optimizer = Muon(groups, 0.1, 0.9, fused=True)
for group in groups:
    group["params"][0].sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.state_dict()
found = [name for name in sys.modules if name in ("torch._dynamo", "sympy")]
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
