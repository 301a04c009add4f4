"""Log-probabilities: summed over what has weight, and compared between policies."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.objectives.logprobs import k1, k2, k3, kept, largest_ratio, row_sums

quick = settings(derandomize=True, deadline=None, database=None, max_examples=50)
logits = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


def distributions(a: list[float], b: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.tensor([a, b], dtype=torch.float64).log_softmax(-1)
    return make[0], make[1]


@quick
@given(logits, logits)
def test_k1_and_k3_are_the_divergence_on_average_and_k3_is_never_below_zero(a, b):
    p, q = distributions(a, b)
    exact = sum(
        math.exp(x) * (x - y) for x, y in zip(p.tolist(), q.tolist(), strict=True)
    )
    assert (p.exp() * k1(p, q)).sum().item() == pytest.approx(exact, abs=1e-9)
    assert (p.exp() * k3(p, q)).sum().item() == pytest.approx(exact, abs=1e-9)
    assert (k3(p, q) >= 0).all()
    assert (k2(p, q) >= 0).all()


def test_k3_keeps_its_digits_where_policies_are_close():
    p = torch.tensor([-3.0])
    assert k3(p, p + 1e-3).item() == pytest.approx(0.5e-6, rel=1e-2)


def gradient_as_a_loss(estimator, logits, reference) -> torch.Tensor:
    """Expected gradient of the estimator on the policy's own samples, enumerated."""
    logits = logits.clone().requires_grad_()
    logprobs = logits.log_softmax(-1)
    (logprobs.exp().detach() * estimator(logprobs, reference)).sum().backward()
    return logits.grad


def gradient_of(divergence, logits) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    divergence(logits.log_softmax(-1)).backward()
    return logits.grad


def test_as_a_loss_k1_is_nothing_k2_the_reverse_and_k3_the_forward_divergence():
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.9, -1.0, 0.0], dtype=torch.float64)
    reference = reference.log_softmax(-1)
    reverse = gradient_of(lambda p: (p.exp() * (p - reference)).sum(), logits)
    forward = gradient_of(lambda p: (reference.exp() * (reference - p)).sum(), logits)
    assert not torch.allclose(reverse, forward, atol=1e-2)
    assert gradient_as_a_loss(k1, logits, reference).abs().max() < 1e-12
    torch.testing.assert_close(gradient_as_a_loss(k2, logits, reference), reverse)
    torch.testing.assert_close(gradient_as_a_loss(k3, logits, reference), forward)


def test_padding_may_hold_anything_and_has_no_gradient():
    logprobs = torch.tensor([[-1.0, math.nan, -math.inf, -2.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    sums, lengths = row_sums(logprobs, weights)
    assert (sums.item(), lengths.item()) == (-2.0, 1.5)
    sums.sum().backward()
    assert logprobs.grad.tolist() == [[1.0, 0.0, 0.0, 0.5]]
    assert kept(logprobs, weights).isfinite().all()


def test_the_largest_ratio_is_of_weighted_tokens_only():
    new = torch.tensor([[-1.0, -1.0, 0.0]])
    old = torch.tensor([[-2.0, -0.5, -50.0]])
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    assert largest_ratio(new, old, weights).item() == pytest.approx(math.e)
    assert largest_ratio(new, new, weights).item() == 1.0
