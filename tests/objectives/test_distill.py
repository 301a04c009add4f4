"""Distillation: both directions, a teacher's logits or only its largest."""

import math

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.distill import Distill, kl_divergence, with_rest
from folio.training.learner import Learner
from tabular import Table, check_gradient

VARIANTS = [
    Distill(),
    Distill("reverse"),
    Distill(temperature=2.0),
    Distill("reverse", temperature=0.5),
]
WEIGHTS = [[0.0, 1.0, 1.0], [1.0, 0.5, 0.0]]


def teacher_logits() -> torch.Tensor:
    make = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 6, generator=make, dtype=torch.float64)


def make_batch(k: int | None = None, temperature=1.0) -> Batch:
    tensors = {
        "inputs": torch.zeros(2, 3, dtype=torch.long),
        "targets": torch.zeros(2, 3, dtype=torch.long),
        "weights": torch.tensor(WEIGHTS, dtype=torch.float64),
    }
    if k is None:
        return Batch(3.5, teacher_logits=teacher_logits(), **tensors)
    top = (teacher_logits() / temperature).log_softmax(-1).topk(k, -1)
    return Batch(3.5, teacher_logprobs=top.values, teacher_ids=top.indices, **tensors)


def softmax(logits, temperature):
    powers = [math.exp(x / temperature) for x in logits]
    return [x / sum(powers) for x in powers]


def longhand(options: Distill, model: Table, k: int | None = None) -> float:
    total = 0.0
    for row in range(2):
        for t in range(3):
            p = softmax(teacher_logits()[row, t].tolist(), options.temperature)
            q = softmax(model.logits[row, t].tolist(), options.temperature)
            if k is not None and k < 6:
                order = sorted(range(6), key=lambda i: -p[i])
                p, q = (
                    [x[i] for i in order[:k]] + [sum(x[i] for i in order[k:])]
                    for x in (p, q)
                )
            if options.direction == "reverse":
                p, q = q, p
            divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            total += WEIGHTS[row][t] * divergence
    return options.temperature**2 * total


@pytest.mark.parametrize("k", [None, 1, 3, 6])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_loss_and_gradient_are_the_longhand(options, k):
    model = Table(rows=2, length=3, vocab=6)
    batch = make_batch(k, options.temperature)
    loss, metrics = options(model, batch)
    assert loss.item() == pytest.approx(longhand(options, model, k), rel=1e-10)
    divergence = metrics["kl"].item() * options.temperature**2
    assert divergence == pytest.approx(loss.item())
    assert len(model.calls) == 1
    check_gradient(options, model, batch, ["logits"])


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_student_like_its_teacher_has_nothing_to_learn(options):
    model = Table(rows=2, length=3, vocab=6)
    model.logits.data = teacher_logits() + 5.0  # logits have no zero point
    for k in (None, 2, 6):
        model.zero_grad()
        loss, _ = options(model, make_batch(k, options.temperature))
        loss.backward()
        assert abs(loss.item()) < 1e-12
        assert model.logits.grad.abs().max() < 1e-8


def test_the_top_k_never_overstate_the_divergence():
    model = Table(rows=2, length=3, vocab=6)
    found = [Distill()(model, make_batch(k))[0].item() for k in range(1, 7)]
    assert found == sorted(found)
    whole = Distill()(model, make_batch())[0].item()
    assert found[-1] == pytest.approx(whole)


def test_a_token_that_the_teacher_excludes_costs_nothing_forward():
    log_p = torch.tensor([0.5, 0.5, 0.0]).log()
    log_q = torch.tensor([0.2, 0.2, 0.6]).log().requires_grad_()
    loss = kl_divergence(log_p, log_q)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2.5))
    assert log_q.grad.tolist() == pytest.approx([-0.5, -0.5, 0.0])


def test_the_rest_is_finite_when_rounding_leaves_nothing():
    sure = torch.tensor([1.0, 1e-9]).log().requires_grad_()
    rest = with_rest(sure)
    assert rest.isfinite().all()
    rest.sum().backward()
    assert sure.grad.isfinite().all()


def test_micro_batches_are_one_batch():
    batch = make_batch()

    def after(cuts):
        torch.manual_seed(0)
        model = Decoder(ModelConfig(vocab_size=6, d_model=16, n_heads=2, max_seq_len=8))
        learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1))
        parts = []
        for start, stop in cuts:
            part = {name: x[start:stop] for name, x in batch.items()}
            parts.append(Batch(part["weights"].sum().item(), **part))
        return learner.update(parts, Distill()), model.embedding.weight.detach()

    whole, weights = after([(0, 2)])
    parts, same = after([(0, 1), (1, 2)])
    torch.testing.assert_close(weights, same, atol=1e-6, rtol=1e-5)
    assert whole == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize("options", [{"direction": "both"}, {"temperature": 0.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Distill(**options)
