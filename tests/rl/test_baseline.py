"""What rollouts teach: groups and critics against a longhand, and what is left out."""

import copy
import math

import pytest
import torch

from folio.config import UserError
from folio.rl.advantage import dead_groups, group_advantages
from folio.rl.baseline import CriticBaseline, GroupBaseline
from folio.rl.control import AdaptiveKL, FixedKL, RunningScale
from folio.rl.rollout import Rollout

# 4 rows of 2 groups; the last one was cut and doesn't count
WEIGHTS = torch.tensor(
    [[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]
).float()
REWARDS = [1.0, 0.0, 2.0, -9.0]
COUNTS = [True, True, True, False]


def make_rollout(rewards=REWARDS, counts=COUNTS, seed=0, **changes) -> Rollout:
    make = torch.Generator().manual_seed(seed)
    old, reference, values = -torch.rand(3, 4, 5, generator=make)
    numbers = {
        "prompts": [None] * 4,
        "texts": [""] * 4,
        "group": 2,
        "inputs": torch.zeros(4, 5, dtype=torch.long),
        "targets": torch.zeros(4, 5, dtype=torch.long),
        "weights": WEIGHTS,
        "finished": torch.tensor(counts),
        "counts": torch.tensor(counts),
        "rewards": torch.tensor(rewards),
        "sampler_logprobs": old,
        "old_logprobs": old,
        "reference_logprobs": reference,
        "values": values,
    }
    return Rollout(**(numbers | changes))


# --------------------------------------------------------------------------- groups


def test_a_row_that_was_cut_is_in_no_mean():
    """Were it, whoever finished would gain by it, and the policy learn to stop."""
    rewards = torch.tensor([1.0, 1.0, -9.0, 3.0, 1.0, 2.0])
    counts = torch.tensor([True, True, False, True, True, False])
    for scale in ("none", "group", "batch"):
        found = group_advantages(rewards, 3, scale, counts)
        assert found[:3].tolist() == [0, 0, 0]  # the two that count are equal
        other = group_advantages(torch.tensor([3.0, 1.0]), 2, "none")
        assert found[5] == 0
        divisor = {"none": 1.0, "group": 1.0 + 1e-4, "batch": math.sqrt(0.75) + 1e-4}
        assert found[3:5].tolist() == pytest.approx((other / divisor[scale]).tolist())
    assert dead_groups(rewards, 3, counts).tolist() == [True, False]
    assert dead_groups(rewards, 3).tolist() == [False, False]
    assert dead_groups(-rewards, 3, counts).tolist() == [True, False]
    alone = torch.tensor([False, False, True] * 2)
    assert group_advantages(rewards, 3, "group", alone).tolist() == [0] * 6
    assert dead_groups(rewards, 3, alone & False).tolist() == [True, True]


def test_a_groups_lesson_is_its_advantage_on_every_token_that_counts():
    lesson = GroupBaseline(scale="none").lesson(make_rollout())
    wanted = torch.tensor([0.5, -0.5, 0.0, 0.0])[:, None] * WEIGHTS
    assert torch.equal(lesson.tensors["advantages"], wanted)
    assert lesson.tensors.keys() == {"advantages"}
    assert lesson.metrics == {"dead_groups": 0.5}
    scaled = GroupBaseline().lesson(make_rollout()).tensors["advantages"]
    torch.testing.assert_close(scaled, 2 * wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("aggregation", "short", "denominator"),
    [("token", 1.0, 8), ("sequence", 0.5, 3), ("constant", 1.0, 30)],
)
def test_tokens_weigh_as_the_aggregation_says(aggregation, short, denominator):
    baseline = GroupBaseline(aggregation=aggregation, longest=10)
    weights, total = baseline.weigh(make_rollout().learned)
    assert total == denominator
    assert weights[1, 1].item() == short
    assert weights[3].sum() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "std"}, "scale = 'std'"),
        ({"aggregation": "mean"}, "aggregation = 'mean'"),
        ({"aggregation": "constant"}, "longest = None"),
    ],
)
def test_an_impossible_group_baseline_is_refused_when_it_is_made(options, message):
    with pytest.raises(UserError, match=message):
        GroupBaseline(**options)


# -------------------------------------------------------------------------- critics


def longhand(rollout, beta, gamma, lam, limit):
    """Shaped rewards and GAE, row by row: {(row, t): (advantage, return)}."""
    found = {}
    for row in range(3):  # the last one doesn't count
        steps = [t for t in range(5) if WEIGHTS[row, t]]
        old, reference, values = (
            [x[row, t].item() for t in steps]
            for x in (
                rollout.old_logprobs,
                rollout.reference_logprobs,
                rollout.values,
            )
        )
        rewards = [-beta * (a - b) for a, b in zip(old, reference, strict=True)]
        rewards[-1] += min(max(rollout.rewards[row].item(), -limit), limit)
        ahead, after = 0.0, 0.0
        for i in reversed(range(len(steps))):
            ahead = rewards[i] + gamma * after - values[i] + gamma * lam * ahead
            after = values[i]
            found[row, steps[i]] = (ahead, ahead + values[i])
    return found


@pytest.mark.parametrize(("gamma", "lam", "limit"), [(1.0, 0.95, 5.0), (0.9, 0.5, 1.5)])
def test_a_critics_lesson_is_the_longhand(gamma, lam, limit):
    rollout = make_rollout()
    baseline = CriticBaseline(FixedKL(0.3), gamma, lam, limit, whitened=False)
    lesson = baseline.lesson(rollout)
    wanted = longhand(rollout, 0.3, gamma, lam, limit)
    for row in range(4):
        for t in range(5):
            advantage, earned = wanted.get((row, t), (0.0, 0.0))
            place = (row, t)
            assert lesson.tensors["advantages"][place].item() == pytest.approx(
                advantage, abs=1e-6
            ), place
            assert lesson.tensors["returns"][place].item() == pytest.approx(
                earned, abs=1e-6
            ), place
    values = rollout.values * rollout.learned
    assert torch.equal(lesson.tensors["old_values"], values)
    returns = [earned for _, earned in wanted.values()]
    mean = sum(returns) / len(returns)
    spread = math.sqrt(sum((x - mean) ** 2 for x in returns) / len(returns))
    assert lesson.tensors["return_std"].tolist() == pytest.approx([spread] * 4)
    assert lesson.metrics["return_std"] == pytest.approx(spread)
    missing = [b - rollout.values[place].item() for place, (_, b) in wanted.items()]
    middle = sum(missing) / len(missing)
    unexplained = sum((x - middle) ** 2 for x in missing) / len(missing)
    explained = lesson.metrics["explained_variance"]
    assert explained == pytest.approx(1 - unexplained / spread**2, abs=1e-5)
    assert lesson.metrics["value"] == pytest.approx(values.sum().item() / 8)
    assert lesson.metrics["beta"] == 0.3


def test_whitening_is_over_the_whole_rollout_and_returns_stay():
    rollout = make_rollout()
    plain = CriticBaseline(FixedKL(0.3), whitened=False).lesson(rollout).tensors
    white = CriticBaseline(FixedKL(0.3)).lesson(rollout).tensors
    chosen = white["advantages"][rollout.learned]
    assert len(chosen) == 8
    assert chosen.mean().item() == pytest.approx(0, abs=1e-6)
    assert chosen.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert white["advantages"][~rollout.learned].abs().max() == 0
    assert torch.equal(white["returns"], plain["returns"])


def test_what_does_not_count_changes_nothing():
    one, other = make_rollout(), make_rollout(rewards=[*REWARDS[:3], 5.0])
    scale = [RunningScale(), RunningScale()]
    lessons = [
        CriticBaseline(FixedKL(0.3), scale=s).lesson(r)
        for s, r in zip(scale, (one, other), strict=True)
    ]
    for name, x in lessons[0].tensors.items():
        assert torch.equal(x, lessons[1].tensors[name]), name
    assert scale[0].state_dict() == scale[1].state_dict()
    assert scale[0].count == 3
    group = [GroupBaseline().lesson(r).tensors["advantages"] for r in (one, other)]
    assert torch.equal(*group)


def test_scores_are_scaled_by_all_so_far_and_never_shifted():
    scale = RunningScale()
    scale.update(torch.tensor([5.0, 25.0]))
    baseline = CriticBaseline(
        FixedKL(0.0), lam=1.0, limit=99.0, whitened=False, scale=scale
    )
    found = baseline.lesson(make_rollout()).tensors["returns"]
    seen = torch.tensor([5.0, 25.0, *REWARDS[:3]])
    deviation = seen.std(correction=0).item()
    for row in range(3):
        assert found[row].amax().item() == pytest.approx(REWARDS[row] / deviation)


def test_the_price_moves_after_the_lesson_by_the_kl_of_whole_responses():
    kl = AdaptiveKL(0.1, target=0.1, horizon=100)
    a_nat_below = make_rollout().old_logprobs - WEIGHTS
    rollout, baseline = make_rollout(reference_logprobs=a_nat_below), CriticBaseline(kl)
    assert baseline.lesson(rollout).metrics["beta"] == 0.1
    assert kl.beta == pytest.approx(0.1 * (1 + 0.2 * 4 / 100))
    assert rollout.kl[0] == pytest.approx(12 / 4)  # the row that was cut as well
    assert baseline.lesson(rollout).metrics["beta"] == kl.beta / (1 + 0.2 * 4 / 100)


def test_without_a_price_no_reference_is_needed():
    rollout = make_rollout()
    free = CriticBaseline(FixedKL(0.0))
    assert not free.needs_reference
    assert CriticBaseline(FixedKL(0.1)).needs_reference
    assert CriticBaseline(AdaptiveKL(1e-4, 1.0)).needs_reference
    wanted = free.lesson(rollout).tensors
    found = free.lesson(make_rollout(reference_logprobs=None)).tensors
    assert torch.equal(found["advantages"], wanted["advantages"])


def test_a_rollout_from_which_nothing_can_be_learned_is_no_error():
    rollout = make_rollout(counts=[False] * 4)
    for baseline in (GroupBaseline(), CriticBaseline(FixedKL(0.1))):
        lesson = baseline.lesson(rollout)
        assert lesson.tensors["advantages"].abs().max() == 0
        assert all(math.isfinite(x) for x in lesson.metrics.values())


def test_resumed_is_never_stopped():
    def make():
        return CriticBaseline(AdaptiveKL(0.1, 0.01), scale=RunningScale())

    whole, first, second = make(), make(), make()
    rollouts = [make_rollout(seed=seed) for seed in range(3)]
    lessons = [whole.lesson(rollout) for rollout in rollouts]
    first.lesson(rollouts[0])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for rollout, wanted in zip(rollouts[1:], lessons[1:], strict=True):
        found = second.lesson(rollout)
        assert found.metrics == wanted.metrics
        for name, x in wanted.tensors.items():
            assert torch.equal(found.tensors[name], x)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.1}, "gamma = 1.1"),
        ({"lam": -0.1}, "lam = -0.1"),
        ({"limit": 0.0}, "limit = 0.0"),
    ],
)
def test_an_impossible_critic_baseline_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        CriticBaseline(FixedKL(0.1), **options)
