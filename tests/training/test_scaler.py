"""The loss scale: what it does to gradients, how it learns, what it remembers."""

import torch

from folio.training.scaler import LossScaler
from helpers import losses, tiny_learner, tiny_stream


def test_scaling_and_unscaling_cancel_exactly():
    """Powers of two only change exponents."""
    scaler = LossScaler(enabled=True)
    weight = torch.tensor([0.3, -0.7], requires_grad=True)
    (weight * weight).sum().backward()
    plain = weight.grad.clone()
    weight.grad = None
    scaler.scale((weight * weight).sum()).backward()
    assert torch.equal(weight.grad, plain * 2**16)
    scaler.unscale([weight.grad])
    assert torch.equal(weight.grad, plain)


def test_small_gradients_survive_fp16():
    """What the scale is for: 1e-8 is zero in fp16, 1e-8 * 2**16 is not."""
    for scale, survives in ((1.0, False), (2.0**16, True)):
        scaler = LossScaler(enabled=True, scale=scale)
        weight = torch.ones(1, dtype=torch.float16, requires_grad=True)
        scaler.scale((weight * 2e-4).float().sum() * 1e-5).backward()
        assert bool(weight.grad != 0) == survives


def test_it_halves_on_overflow_and_doubles_after_patience():
    scaler = LossScaler(enabled=True, scale=8.0, patience=3)
    history = []
    for overflow in (True, False, False, True, False, False, False, False):
        scaler.update(overflow)
        history.append(scaler.value)
    assert history == [4, 4, 4, 2, 2, 2, 4, 4]


def test_it_never_goes_below_one_and_knows_that_it_can_not_help():
    scaler = LossScaler(enabled=True, scale=2.0)
    assert scaler.may_lower
    scaler.update(overflow=True)
    scaler.update(overflow=True)
    assert scaler.value == 1.0
    assert not scaler.may_lower


def test_disabled_it_does_nothing():
    scaler = LossScaler(enabled=False)
    scaler.update(overflow=True)
    assert scaler.value == 1.0
    assert not scaler.may_lower
    loss = torch.ones(1)
    assert scaler.scale(loss) is loss


def test_its_state_goes_on_where_it_was():
    scaler, other = (LossScaler(enabled=True, patience=3) for _ in range(2))
    for overflow in (True, False, False):
        scaler.update(overflow)
    other.load_state_dict(scaler.state_dict())
    scaler.update(overflow=False)
    other.update(overflow=False)
    assert other.value == scaler.value == 2.0**16


def test_the_scale_doesn_t_show_in_what_is_logged():
    """The loss and the norm are those of the unscaled problem."""
    metrics = []
    for scale in (1.0, 2.0**10):
        learner = tiny_learner(precision="fp16")
        learner.scaler.value = scale
        metrics.append(losses(learner, tiny_stream(), 1)[0])
    assert metrics[0]["loss"] == metrics[1]["loss"]
    assert abs(metrics[0]["grad_norm"] / metrics[1]["grad_norm"] - 1) < 0.01
