"""An objective on held-out data: divided once, whatever the batches' sizes."""

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.evals.held_out import held_out
from folio.objectives.next_token import next_token
from helpers import VOCABULARY, tiny_model


def batch_of(rows: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (rows, 9), generator=generator)
    weights = (torch.rand(rows, 8, generator=generator) < 0.5).float()
    count = weights.sum().item()
    return Batch(count, inputs=ids[:, :-1], targets=ids[:, 1:], weights=weights)


def test_small_batches_count_by_what_is_in_them():
    model, batches = tiny_model(), [batch_of(1, 0), batch_of(5, 1)]
    found = held_out(next_token, model, batches)
    with torch.no_grad():
        sums = [next_token(model.eval(), batch)[0].item() for batch in batches]
    wanted = sum(sums) / sum(batch.denominator for batch in batches)
    assert found["val_loss"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_left(training):
    model = tiny_model(dropout=0.5).train(training)
    values = [held_out(next_token, model, [batch_of(3, 2)]) for _ in range(2)]
    assert values[0] == values[1]
    assert model.training is training
    assert all(p.grad is None for p in model.parameters())


def test_other_sums_become_means_too():
    def objective(model, batch):
        return torch.tensor(6.0), {"accuracy": torch.tensor(3.0)}

    batches = [Batch(2.0), Batch(4.0)]
    found = held_out(objective, tiny_model(), batches)
    assert found == {"val_loss": 2.0, "val_accuracy": 1.0}


def test_nothing_to_measure_is_an_error():
    with pytest.raises(UserError, match="held-out part is empty"):
        held_out(next_token, tiny_model(), [])
