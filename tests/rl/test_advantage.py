"""Advantages: groups, GAE, whitening, against loops and against what they promise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.rl.advantage import (
    SCALES,
    dead_groups,
    explained_variance,
    gae,
    group_advantages,
    whiten,
)

quick = settings(derandomize=True, deadline=None, database=None, max_examples=40)
few = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5]), min_size=12, max_size=12)


@quick
@given(few, st.sampled_from([1, 2, 3, 4, 6, 12]), st.sampled_from(SCALES))
def test_group_advantages_are_the_longhand_and_sum_to_zero(rewards, group, scale):
    found = group_advantages(torch.tensor(rewards), group, scale).tolist()
    whole = math.sqrt(sum((r - sum(rewards) / 12) ** 2 for r in rewards) / 12)
    for start in range(0, 12, group):
        own = rewards[start : start + group]
        mean = sum(own) / group
        deviation = math.sqrt(sum((r - mean) ** 2 for r in own) / group)
        divisor = {"none": 1.0, "group": deviation + 1e-4, "batch": whole + 1e-4}
        wanted = [(r - mean) / divisor[scale] for r in own]
        got = found[start : start + group]
        assert got == pytest.approx(wanted, abs=1e-4)
        assert sum(got) == pytest.approx(0, abs=1e-4)
        if len(set(own)) == 1:
            assert got == [0.0] * group


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("reward", [0.1, 0.7, 1e4])
def test_a_group_without_a_difference_is_exactly_zero(scale, reward):
    rewards = torch.tensor([reward] * 7 + [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0])
    assert group_advantages(rewards, 7, scale)[:7].tolist() == [0.0] * 7
    assert dead_groups(rewards, 7).tolist() == [True, False]
    assert group_advantages(rewards, 1, scale).tolist() == [0.0] * 14


def test_the_rows_of_a_group_adjoin():
    """`repeat_interleave` of prompts, not `repeat`: else groups mix prompts."""
    rewards = torch.tensor([1.0, 0.0]).repeat_interleave(4)
    assert group_advantages(rewards, 4).abs().max() == 0
    mixed = torch.tensor([1.0, 0.0]).repeat(4)
    assert group_advantages(mixed, 4).abs().min() > 0


def test_broken_groups_and_unknown_scales_are_refused():
    with pytest.raises(UserError, match="group = 4: 6 responses"):
        group_advantages(torch.zeros(6), 4)
    with pytest.raises(UserError, match="group = 0"):
        dead_groups(torch.zeros(6), 0)
    with pytest.raises(UserError, match="scale = 'std'"):
        group_advantages(torch.zeros(6), 2, "std")


MASK = torch.tensor(
    [[0, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 1, 1], [0, 0, 0, 0, 0]]
)


def rollout(seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    rewards = torch.randn(4, 5, generator=make, dtype=torch.float64)
    values = torch.randn(4, 5, generator=make, dtype=torch.float64)
    return rewards, values


def longhand_gae(rewards, values, mask, gamma, lam, after):
    """A_t as the sum of (γλ)^k δ_{t+k}, by its definition."""
    found = [[0.0] * 5 for _ in range(4)]
    for row in range(4):
        steps = [t for t in range(5) if mask[row][t]]
        r, v = ([x[row][t] for t in steps] for x in (rewards, values))
        v.append(after[row])
        surprises = [r[i] + gamma * v[i + 1] - v[i] for i in range(len(steps))]
        for i, t in enumerate(steps):
            found[row][t] = sum(
                (gamma * lam) ** k * surprise
                for k, surprise in enumerate(surprises[i:])
            )
    return found


@pytest.mark.parametrize("after", [None, [0.7, 0.0, -0.4, 3.0]])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (0.99, 0.0)])
def test_gae_is_the_longhand(gamma, lam, after):
    rewards, values = rollout()
    behind = None if after is None else torch.tensor(after, dtype=torch.float64)
    found = gae(rewards, values, MASK, gamma, lam, behind)
    wanted = longhand_gae(
        rewards.tolist(), values.tolist(), MASK.tolist(), gamma, lam, after or [0.0] * 4
    )
    wanted = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(found.advantages, wanted)
    torch.testing.assert_close(found.returns, wanted + values * MASK)


def test_lambda_one_is_monte_carlo_whatever_the_critic_says():
    rewards, values = rollout()
    returns = gae(rewards, values, MASK, 1.0, 1.0).returns
    for row in range(4):
        for t in range(5):
            wanted = (rewards[row, t:] * MASK[row, t:]).sum() * MASK[row, t]
            assert returns[row, t].item() == pytest.approx(wanted.item())


def test_lambda_zero_is_the_surprise_of_one_step():
    rewards, values = rollout()
    found = gae(rewards, values, MASK, 0.9, 0.0).advantages
    assert found[0, 2].item() == pytest.approx(
        (rewards[0, 2] + 0.9 * values[0, 3] - values[0, 2]).item()
    )
    assert found[0, 4].item() == pytest.approx((rewards[0, 4] - values[0, 4]).item())
    assert found[2, 1].item() == pytest.approx(  # the next step is behind the gap
        (rewards[2, 1] + 0.9 * values[2, 3] - values[2, 1]).item()
    )


def test_an_end_is_worth_nothing_and_a_cut_is_not_an_end():
    rewards, values = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    mask = torch.ones(2, 3)
    found = gae(rewards, values, mask, after=torch.tensor([0.0, 0.5])).advantages
    assert found[0, 2].item() == -0.5  # nothing came, and 0.5 was expected
    assert found[1].abs().max() == 0  # the critic still expects 0.5


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_padding_is_never_read(garbage):
    rewards, values = rollout()
    pads = MASK == 0
    dirty = [x.masked_fill(pads, garbage) for x in (rewards, values)]
    for found, wanted in zip(
        gae(*dirty, MASK), gae(rewards, values, MASK), strict=True
    ):
        assert torch.equal(found, wanted)
        assert found[pads].abs().max() == 0
    assert torch.equal(whiten(dirty[0], MASK), whiten(rewards, MASK))
    assert explained_variance(*dirty, MASK) == explained_variance(rewards, values, MASK)


def test_whitened_has_mean_zero_and_deviation_one_over_the_mask():
    x = rollout()[0] * 7 + 3
    white = whiten(x, MASK)
    chosen = white[MASK.bool()]
    assert chosen.mean().item() == pytest.approx(0, abs=1e-12)
    assert chosen.std(correction=0).item() == pytest.approx(1)
    order = x[MASK.bool()].argsort()
    assert torch.equal(chosen.argsort(), order)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_nothing_to_whiten_is_zero(value, count):
    mask = torch.arange(7)[None] < count
    assert whiten(torch.full((1, 7), value), mask).abs().max() == 0


def test_explained_variance():
    returns, mask = torch.tensor([[1.0, 2.0, 4.0, 50.0]]), torch.tensor([[1, 1, 1, 0]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(torch.full((1, 4), 9.0), returns, mask) == pytest.approx(
        0
    )
    values = torch.tensor([[1.0, 1.0, 1.0, 7.0]])
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3)
    assert explained_variance(values + returns / 2, returns, mask) == pytest.approx(
        0.75
    )
    assert explained_variance(values, torch.full((1, 4), 0.1), mask) == 0
