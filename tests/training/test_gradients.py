"""The gradient's norm by layer: measured before clipping, and it disturbs nothing."""

import math

import pytest
import torch

from folio.training.gradients import gradient_norms
from helpers import (
    assert_same,
    everything,
    losses,
    tiny_learner,
    tiny_model,
    tiny_stream,
)

PARTS = {"embedding", "blocks.0", "blocks.1", "norm"}


def test_the_parts_make_up_the_whole_before_clipping():
    learner = tiny_learner(max_norm=0.01, watch_gradients=True)
    for metrics in losses(learner, tiny_stream(), 3):
        norms = {k: v for k, v in metrics.items() if k.startswith("grad_norm.")}
        assert set(norms) == {f"grad_norm.{part}" for part in PARTS}
        assert metrics["grad_norm"] > 0.1
        whole = math.sqrt(sum(norm**2 for norm in norms.values()))
        assert whole == pytest.approx(metrics["grad_norm"], rel=1e-5)


def test_each_part_has_its_own_gradients():
    model = tiny_model(positions="learned", tie_embeddings=False)
    for name, parameter in model.named_parameters():
        parameter.grad = torch.zeros_like(parameter)
        if name == "blocks.1.attention.query.weight":
            parameter.grad[0, :2] = torch.tensor([3.0, 4.0])
    norms = gradient_norms(model)
    assert norms.pop("grad_norm.blocks.1") == 5.0
    others = {"embedding", "positions", "blocks.0", "norm", "head"}
    assert norms == {f"grad_norm.{part}": 0.0 for part in others}


def test_frozen_parts_are_left_out():
    model = tiny_model()
    assert gradient_norms(model) == {}
    model.norm.gain.grad = torch.ones_like(model.norm.gain)
    assert gradient_norms(model) == {"grad_norm.norm": 4.0}


def test_watching_changes_nothing():
    one, other = tiny_learner(), tiny_learner(watch_gradients=True)
    for learner in (one, other):
        losses(learner, tiny_stream(), 4, accumulate=2)
    assert_same(everything(one), everything(other))
