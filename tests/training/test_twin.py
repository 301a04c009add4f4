"""The twin computes in bf16, the weights that learn stay in fp32."""

import copy

import pytest
import torch

from folio.config import UserError
from folio.objectives.next_token import next_token
from folio.training.learner import Learner
from folio.training.snapshot import newest_snapshot, restore, save_snapshot
from folio.training.twin import Twin
from helpers import (
    BALANCED,
    assert_same,
    everything,
    losses,
    tiny_learner,
    tiny_model,
    tiny_stream,
)


def test_the_twin_is_the_model_rounded_and_shares_its_buffers():
    model = tiny_model(experts=BALANCED)
    twin = Twin(model)
    for (name, low), master in zip(
        twin.model.named_parameters(), model.parameters(), strict=True
    ):
        assert low.dtype == torch.bfloat16, name
        assert torch.equal(low, master.bfloat16())
        assert low is not master
    buffers = dict(model.named_buffers())
    assert buffers
    for name, buffer in twin.model.named_buffers():
        assert buffer is buffers[name], name
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    twin.round()
    assert torch.equal(twin.rounded[0], twin.masters[0].bfloat16())


def test_a_tied_head_stays_tied():
    twin = Twin(tiny_model(tie_embeddings=True))
    assert twin.model.head.weight is twin.model.embedding.weight


def test_micro_batches_are_added_in_fp32():
    """In bf16, 1 + 1/512 is 1: many small gradients would be lost."""
    model = torch.nn.Linear(1, 1, bias=False)
    twin = Twin(model)
    for value in [1.0] + [2.0**-9] * 8:
        twin.rounded[0].grad = torch.full((1, 1), value, dtype=torch.bfloat16)
        twin.hand_over()
        assert twin.rounded[0].grad is None
    assert model.weight.grad.dtype == torch.float32
    assert model.weight.grad.item() == 1 + 2**-6


def test_steps_that_bf16_weights_would_lose_are_kept():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    learner = tiny_learner(model=model, lr=1e-5, precision="bf16-weights")
    losses(learner, tiny_stream(), 3)
    moved = 0.0
    for name, weight in model.state_dict().items():
        assert weight.dtype == torch.float32
        moved = max(moved, (weight - before[name]).abs().max().item())
    assert 0 < moved < 1e-4


def test_it_learns_as_fp32_does():
    found, batch = {}, next(tiny_stream(batch=8))
    for precision in ("fp32", "bf16-weights"):
        learner = tiny_learner(precision=precision)
        rows = [learner.update([batch], next_token) for _ in range(20)]
        found[precision] = [row["loss"] for row in rows]
    whole, half = found.values()
    assert whole != half
    assert half[-1] < 0.8 * half[0]
    assert half[-1] == pytest.approx(whole[-1], rel=0.02)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resumed_is_never_stopped(tmp_path, accumulate):
    def fresh():
        return tiny_learner(precision="bf16-weights"), tiny_stream()

    straight, stream = fresh()
    whole = losses(straight, stream, 6, accumulate)
    stopped, stream = fresh()
    losses(stopped, stream, 3, accumulate)
    save_snapshot(tmp_path, stopped, {"stream": stream.state_dict()})
    resumed, stream = fresh()
    snapshot = newest_snapshot(tmp_path)
    restore(snapshot, resumed)
    stream.load_state_dict(snapshot.state["stream"])
    assert losses(resumed, stream, 3, accumulate) == whole[3:]
    assert_same(everything(resumed), everything(straight))


def test_a_compiled_learner_computes_the_same(monkeypatch):
    """By a backend that changes nothing: what is tested is that it's gone through."""
    used = []

    def backend(graph, inputs):
        used.append(len(inputs))
        return graph.forward

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compiler(f, backend=backend))
    found = [
        losses(tiny_learner(compiled=compiled), tiny_stream(), 3)[-1]
        for compiled in (False, True)
    ]
    assert used
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_names_are_checked():
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with pytest.raises(UserError, match="choose fp32, bf16, fp16 or bf16-weights"):
        Learner(model, optimizer, precision="int8")


def test_what_is_evaluated_and_saved_are_the_masters():
    learner = tiny_learner(precision="bf16-weights")
    losses(learner, tiny_stream(), 2)
    batch = next(tiny_stream())
    with torch.no_grad():
        loss, _ = next_token(learner.model, batch)
    assert loss.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in learner.model.parameters())
