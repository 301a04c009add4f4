"""Controllers: the rule of each by hand, its limits, and resuming."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.rl.control import AdaptiveKL, FixedKL, RolloutLength, RunningScale

quick = settings(derandomize=True, deadline=None, database=None, max_examples=40)


@pytest.mark.parametrize(
    ("seen", "error"),
    [(2.0, 0.0), (2.2, 0.1), (1.8, -0.1), (2.4, 0.2), (50.0, 0.2), (-3.0, -0.2)],
)
def test_an_adaptive_price_follows_the_clipped_error(seen, error):
    kl = AdaptiveKL(0.1, target=2.0, horizon=1000)
    assert kl.update(seen, samples=100) == pytest.approx(0.1 * (1 + error * 0.1))
    assert kl.beta == pytest.approx(0.1 * (1 + error * 0.1))


def test_an_adaptive_price_has_a_floor_and_a_ceiling():
    kl = AdaptiveKL(0.1, target=1.0, horizon=100)
    assert [kl.update(9.0, 1000) for _ in range(3)][-1] == 1.0
    assert [kl.update(0.0, 90) for _ in range(99)][-1] == 1e-4
    assert kl.update(9.0, 1000) == pytest.approx(3e-4)  # and comes back


def test_an_adaptive_price_holds_a_policy_at_its_target():
    """A policy whose KL is 0.1 / β, as a bandit's nearly is, ends at the target."""
    kl = AdaptiveKL(0.5, target=2.0, horizon=500)
    for _ in range(400):
        kl.update(0.1 / kl.beta, samples=64)
    assert kl.beta == pytest.approx(0.05, rel=1e-2)


def test_a_fixed_price_stays():
    kl = FixedKL(0.05)
    assert kl.update(9.0, 128) == kl.beta == 0.05
    with pytest.raises(UserError, match=r"beta = -0\.1"):
        FixedKL(-0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0, "target": 1.0}, "beta = 0.0"),
        ({"beta": 2.0, "target": 1.0}, "beta = 2.0"),
        ({"beta": 0.1, "target": 0.0}, "target = 0.0"),
        ({"beta": 0.1, "target": 1.0, "horizon": 0}, "horizon = 0"),
    ],
)
def test_an_impossible_adaptive_price_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        AdaptiveKL(**options)


@pytest.mark.parametrize(
    ("kl", "factor"), [(3.01, 0.9), (3.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.99, 1.05)]
)
def test_length_follows_the_rule(kl, factor):
    length = RolloutLength(200, least=10, most=400, target=2.0)
    assert length.update(kl) == round(200 * factor)


def test_length_keeps_to_its_limits_and_short_ones_can_grow():
    length = RolloutLength(10, least=8, most=12, target=2.0)
    assert [length.update(9.0) for _ in range(3)] == [9, 8, 8]
    grown = [length.update(0.0) for _ in range(12)]
    assert grown[-1] == 12
    assert grown == sorted(grown)


def test_a_row_cut_by_a_shortened_cap_is_not_learned_from():
    finished = torch.tensor([True, False])
    length = RolloutLength(100, least=10, most=100, target=2.0)
    assert length.counts(finished).tolist() == [True, True]  # its own fault
    length.update(9.0)
    assert length.counts(finished).tolist() == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"start": 5, "least": 6, "most": 9, "target": 1.0},
        {"start": 10, "least": 6, "most": 9, "target": 1.0},
        {"start": 5, "least": 0, "most": 9, "target": 1.0},
        {"start": 5, "least": 1, "most": 9, "target": 0.0},
    ],
)
def test_an_impossible_length_is_refused(options):
    with pytest.raises(UserError, match="must"):
        RolloutLength(**options)


parts = st.lists(
    st.lists(st.floats(-100, 100), min_size=0, max_size=6), min_size=1, max_size=6
)


@quick
@given(parts, st.floats(-1e4, 1e4))
def test_running_moments_are_those_of_all_values_at_once(parts, offset):
    running = RunningScale()
    values = [x + offset for part in parts for x in part]
    for part in parts:
        running.update(torch.tensor(part, dtype=torch.float64) + offset)
    assert running.count == len(values)
    if values:
        assert running.mean == pytest.approx(statistics.fmean(values), abs=1e-8)
        wanted = statistics.pstdev(values)
        if wanted > 1e-5 * (1 + abs(running.mean)):
            assert running.deviation == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("reward", [0.0, 0.1, -3e4])
def test_rewards_that_never_vary_are_left_alone(reward):
    running = RunningScale()
    for count in (1, 6, 3):
        running.update(torch.full((count,), reward))
    assert running.deviation == 1.0


def test_scaling_never_shifts():
    """Else each token would be paid for, and length taught."""
    running = RunningScale()
    running.update(torch.tensor([10.0, 14.0]))
    scaled = running.scaled(torch.tensor([0.0, 1.0, -4.0]))
    assert scaled.tolist() == [0.0, 0.5, -2.0]


def test_a_reward_that_is_not_finite_is_refused_and_leaves_no_trace():
    running = RunningScale()
    running.update(torch.tensor([1.0, 3.0]))
    before = running.state_dict()
    with pytest.raises(ValueError, match="not finite"):
        running.update(torch.tensor([1.0, math.nan]))
    assert running.state_dict() == before


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda: FixedKL(0.1), lambda x: x.update(3.0, 64)),
        (lambda: AdaptiveKL(0.1, 2.0), lambda x: x.update(3.0, 64)),
        (lambda: RolloutLength(77, 5, 99, 2.0), lambda x: x.update(9.0)),
        (RunningScale, lambda x: x.update(torch.tensor([1.0, 2.5]))),
    ],
    ids=["fixed", "adaptive", "length", "scale"],
)
def test_resumed_is_never_stopped(make, step):
    whole, first, second = make(), make(), make()
    for _ in range(3):
        step(whole)
    step(first)
    second.load_state_dict(first.state_dict())
    step(second)
    step(second)
    assert second.state_dict() == whole.state_dict()
    assert all(isinstance(x, int | float) for x in whole.state_dict().values())
