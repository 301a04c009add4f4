"""Ranking: the reward model's losses, against a longhand."""

import math
from types import SimpleNamespace

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.objectives.ranking import Ranking, bradley_terry, pair_accuracy, pairs
from folio.training.learner import Learner
from tabular import Table, check_gradient


def make_batch(leads=None) -> Batch:
    tensors = {
        "inputs": torch.zeros(6, 5, dtype=torch.long),
        "ends": torch.tensor([4, 2, 3, 3, 0, 4]),
    }
    if leads is not None:
        tensors["leads"] = torch.tensor(leads, dtype=torch.float64)
    return Batch(3, **tensors)


def longhand(options: Ranking, scores: list[float], leads: list[float]) -> float:
    loss = 0.0
    for pair in range(3):
        chosen, rejected = scores[2 * pair], scores[2 * pair + 1]
        delta, lead, share = chosen - rejected, leads[pair], options.label_smoothing
        if options.loss == "margin":
            loss += max(0.0, options.margin - delta)
        else:
            loss += (1 - share) * math.log(1 + math.exp(-(delta - lead)))
            loss += share * math.log(1 + math.exp(delta + lead))
        loss += options.centring * (chosen + rejected) ** 2
    return loss


@pytest.mark.parametrize(
    ("options", "leads"),
    [
        (Ranking(), None),
        (Ranking(centring=0.0), None),
        (Ranking(label_smoothing=0.1), None),
        (Ranking(label_smoothing=0.2, centring=0.5, use_margins=True), [0.5, 0.0, 2.0]),
        (Ranking(), [0.5, 0.0, 2.0]),  # known, and not asked for
        (Ranking("margin", margin=0.7), None),
    ],
)
def test_loss_and_gradient_are_the_longhand(options, leads):
    model, batch = Table(rows=6, length=5), make_batch(leads)
    loss, metrics = options(model, batch)
    scores = [model.values[i, end].item() for i, end in enumerate(batch.ends)]
    wanted = longhand(options, scores, leads if options.use_margins else [0.0] * 3)
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    assert len(model.calls) == 1
    wins = sum(scores[i] > scores[i + 1] for i in (0, 2, 4))
    assert metrics["accuracy"].item() == wins
    assert metrics["chosen_score"].item() == pytest.approx(sum(scores[0::2]))
    assert metrics["rejected_score"].item() == pytest.approx(sum(scores[1::2]))
    check_gradient(options, model, batch, ["values"])


def test_before_learning_the_loss_is_ln_2_and_a_tie_is_half_right():
    model = Table(rows=6, length=5)
    model.values.data.zero_()
    loss, metrics = Ranking()(model, make_batch())
    assert loss.item() / 3 == pytest.approx(math.log(2))
    assert metrics["accuracy"].item() / 3 == 0.5


def test_bradley_terry_knows_differences_only_and_is_finite_far_out():
    chosen, rejected = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(
        bradley_terry(chosen, rejected), bradley_terry(chosen + 50, rejected + 50)
    )
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = bradley_terry(far, torch.zeros(2))
    assert loss.tolist() == [0.0, 1e4]
    loss.sum().backward()
    assert far.grad.tolist() == [0.0, -1.0]


def test_accuracy_ignores_by_how_much():
    assert pair_accuracy(torch.tensor([1e-9, -1e9, 0.0])).tolist() == [1.0, 0.0, 0.5]


def test_pairs_lie_side_by_side():
    assert [part.tolist() for part in pairs(torch.arange(4))] == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="alternate"):
        pairs(torch.arange(3))


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.5]))

    def forward(self, inputs):
        return SimpleNamespace(values=self.weight[inputs], router_loss=None)


def test_micro_batches_of_whole_pairs_are_one_batch():
    inputs = torch.tensor([[0], [1], [2], [0], [1], [2]])
    ends = torch.zeros(6, dtype=torch.long)

    def after(cuts):
        model = Linear()
        learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1))
        parts = [
            Batch((stop - start) / 2, inputs=inputs[start:stop], ends=ends[start:stop])
            for start, stop in cuts
        ]
        return learner.update(parts, Ranking()), model.weight.detach()

    whole, weights = after([(0, 6)])
    parts, same = after([(0, 2), (2, 6)])
    torch.testing.assert_close(weights, same)
    assert whole == pytest.approx(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "elo"}, "loss = 'elo'"),
        ({"margin": 0.0}, "margin = 0.0"),
        ({"label_smoothing": 0.6}, "label_smoothing = 0.6"),
        ({"loss": "margin", "label_smoothing": 0.1}, "bradley_terry"),
        ({"centring": -1.0}, "centring = -1.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Ranking(**options)
