"""Next-token prediction: a sum, weighted, over targets shifted by one."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from folio.data.batch import Batch
from folio.data.text import next_token_batch
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.next_token import next_token


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Decoder(ModelConfig(vocab_size=11, d_model=16, n_heads=2, max_seq_len=8))


@pytest.fixture
def batch():
    rows = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))
    return next_token_batch(rows)


def test_the_loss_is_the_sum_of_minus_log_p(model, batch):
    loss, metrics = next_token(model, batch)
    assert metrics == {}
    table = model(batch.inputs).logits.double().log_softmax(-1)
    wanted = 0.0
    for row in range(3):
        for place in range(8):
            wanted -= table[row, place, batch.targets[row, place]].item()
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    assert wanted / batch.denominator == pytest.approx(math.log(11), rel=0.1)


def test_weights_count_targets_in_or_out(model, batch):
    whole, _ = next_token(model, batch)
    halves = []
    for keep in (slice(0, 4), slice(4, 8)):
        weights = torch.zeros_like(batch.weights)
        weights[:, keep] = 1
        tensors = dict(batch) | {"weights": weights}
        halves.append(next_token(model, Batch(weights.sum().item(), **tensors))[0])
    assert whole.item() == pytest.approx(sum(halves).item(), rel=1e-6)


def test_a_target_without_weight_has_no_gradient(model, batch):
    def gradient(targets: torch.Tensor) -> torch.Tensor:
        weights = batch.weights.clone()
        weights[:, :5] = 0
        tensors = dict(batch) | {"weights": weights, "targets": targets}
        model.zero_grad()
        next_token(model, Batch(1, **tensors))[0].backward()
        return model.embedding.weight.grad.clone()

    other = batch.targets.clone()
    other[:, :5] = 0
    assert torch.equal(gradient(batch.targets), gradient(other))


def test_splitting_a_batch_splits_the_sum(model, batch):
    whole, _ = next_token(model, batch)
    parts = [
        next_token(model, Batch(8, **{n: t[i : i + 1] for n, t in batch.items()}))[0]
        for i in range(3)
    ]
    assert whole.item() == pytest.approx(sum(parts).item(), rel=1e-6)


def test_the_model_is_called_once_and_asked_for_log_probabilities(batch):
    calls = []

    class Counting(nn.Module):
        def forward(self, tokens, targets):
            calls.append((tokens, targets))
            return SimpleNamespace(
                logprobs=torch.full(tokens.shape, -2.0), router_loss=None
            )

    loss, _ = next_token(Counting(), batch)
    assert loss.item() == 2.0 * 24
    assert len(calls) == 1
    assert calls[0][0] is batch.inputs
    assert calls[0][1] is batch.targets


def test_a_packed_row_costs_what_its_documents_cost_apart(model):
    rows = torch.randint(11, (1, 9), generator=torch.Generator().manual_seed(1))
    whole = next_token_batch(rows)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]])
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    packed = Batch(8.0, **whole, positions=positions, documents=documents)
    apart = [
        Batch(8.0, **{name: tensor[:, part] for name, tensor in whole.items()})
        for part in (slice(0, 3), slice(3, 8))
    ]
    found = next_token(model, packed)[0].item()
    wanted = sum(next_token(model, batch)[0].item() for batch in apart)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found != pytest.approx(next_token(model, whole)[0].item(), rel=1e-5)
