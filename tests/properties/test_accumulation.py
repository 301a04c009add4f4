"""Accumulated over micro-batches = one big batch, however uneven the batches are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from folio.data.batch import Batch
from folio.model.config import Experts
from folio.objectives.next_token import next_token
from folio.training.learner import Learner
from helpers import CONTEXT, VOCABULARY, tiny_model


def rows_with_weights(rows: int, seed: int) -> dict[str, torch.Tensor]:
    """Random tokens; weights between none and all of a row, some of them fractions."""
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (rows, CONTEXT + 1), generator=chance)
    share = torch.rand(rows, 1, generator=chance)
    weights = (torch.rand(rows, CONTEXT, generator=chance) < share).float()
    weights[0, 0] = 0.5  # at least one target has weight
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "weights": weights}


def cut(whole: dict[str, torch.Tensor], sizes: list[int]) -> list[Batch]:
    """The same rows as batches of these sizes, each with its own denominator."""
    parts = {name: tensor.split(sizes) for name, tensor in whole.items()}
    batches = []
    for i in range(len(sizes)):
        tensors = {name: parts[name][i].contiguous() for name in parts}
        batches.append(Batch(float(tensors["weights"].sum()), **tensors))
    return batches


def one_update(batches: list[Batch], max_norm: float | None = None, **changes):
    """(metrics, gradients, weights) of one step of plain gradient descent."""
    model = tiny_model(**changes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients = {}

    def keep(optimizer, *rest):
        named = model.named_parameters()
        gradients.update({name: p.grad.clone() for name, p in named})

    optimizer.register_step_pre_hook(keep)
    learner = Learner(model, optimizer, max_norm=max_norm)
    metrics = learner.update(batches, objective)
    return metrics, gradients, dict(model.named_parameters())


def objective(model: nn.Module, batch: Batch):
    """Next-token loss, and a metric of its own."""
    loss, metrics = next_token(model, batch)
    return loss, metrics | {"odd": (batch.weights * (batch.targets % 2)).sum()}


@settings(max_examples=30, derandomize=True, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    seed=st.integers(0, 2**30),
    max_norm=st.sampled_from([None, 0.1]),
)
def test_accumulated_equals_one_big_batch(sizes, seed, max_norm):
    whole = rows_with_weights(sum(sizes), seed)
    big = one_update(cut(whole, [sum(sizes)]), max_norm)
    small = one_update(cut(whole, sizes), max_norm)
    assert small[0] == pytest.approx(big[0], rel=1e-4)
    for one, other in zip(big[1:], small[1:], strict=True):
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
@settings(max_examples=20, derandomize=True, deadline=None, database=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    seed=st.integers(0, 2**30),
)
def test_accumulated_equals_one_big_batch_for_routers_too(router, sizes, seed):
    """Balance is asked for row by row: over a micro-batch it would be another loss."""
    experts = Experts(4, 2, balance=0.5, z_loss=0.1, router=router)
    whole = rows_with_weights(sum(sizes), seed)
    big = one_update(cut(whole, [sum(sizes)]), experts=experts)
    small = one_update(cut(whole, sizes), experts=experts)
    assert big[0]["router_loss"] > 0.3
    assert small[0] == pytest.approx(big[0], rel=1e-4)
    for one, other in zip(big[1:], small[1:], strict=True):
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=2e-6)


def test_a_mean_of_means_would_be_noticed():
    """The mistake that this design excludes: each micro-batch divided by its own."""
    whole = rows_with_weights(8, seed=3)
    batches = cut(whole, [2, 2, 2, 2])
    assert len({batch.denominator for batch in batches}) > 1
    _, right, _ = one_update(cut(whole, [8]))
    model = tiny_model()
    for batch in batches:
        loss, _ = next_token(model, batch)
        (loss / batch.denominator / len(batches)).backward()
    wrong = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name in ("embedding.weight", "blocks.0.mlp.up.weight"):
        error = (wrong[name] - right[name]).norm() / right[name].norm()
        assert error > 0.05  # against 1e-4 allowed above
