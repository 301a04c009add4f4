"""Rewards of a rollout: score at the last token, the price of KL at every one."""

import math

import pytest
import torch

from folio.rl.kl import policy_kl, punish_unfinished, shaped_rewards

MASK = torch.tensor(
    [[0, 1, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
)


def rollout() -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(0)
    both = -3 * torch.rand(2, 4, 5, generator=make, dtype=torch.float64)
    return both[0], both[1]


def test_rewards_are_the_longhand():
    old, reference = rollout()
    scores = [0.5, -9.0, 9.0, 4.0]
    found = shaped_rewards(torch.tensor(scores), old, reference, MASK, beta=0.3)
    last = [3, 1, 4, None]
    for row in range(4):
        for t in range(5):
            wanted = 0.0
            if MASK[row, t]:
                wanted = -0.3 * (old[row, t] - reference[row, t]).item()
            if t == last[row]:
                wanted += min(max(scores[row], -5.0), 5.0)
            assert found[row, t].item() == pytest.approx(wanted), (row, t)


def test_their_sum_is_the_score_less_the_price_of_the_response():
    old, reference = rollout()
    scores = torch.tensor([1.0, 2.0, 3.0, 0.0])
    total = shaped_rewards(scores, old, reference, MASK, beta=0.1).sum(1)
    gap = ((old - reference) * MASK).sum(1)
    torch.testing.assert_close(total, scores.double() - 0.1 * gap)


def test_padding_is_never_read():
    old, reference = rollout()
    scores = torch.tensor([1.0, 2.0, 3.0, 0.0])
    dirty = old.masked_fill(MASK == 0, math.nan)
    wanted = shaped_rewards(scores, old, reference, MASK, 0.1)
    assert torch.equal(shaped_rewards(scores, dirty, reference, MASK, 0.1), wanted)
    assert policy_kl(dirty, reference, MASK) == policy_kl(old, reference, MASK)


def test_kl_is_per_response_and_per_token():
    old, reference = rollout()
    a, b = old.tolist(), reference.tolist()
    rows, tokens = [], []
    for row in range(3):
        gaps = [a[row][t] - b[row][t] for t in range(5) if MASK[row, t]]
        rows.append(sum(gaps))
        tokens += [math.exp(-gap) - 1 + gap for gap in gaps]
    wanted = (sum(rows) / 3, sum(tokens) / 6)
    assert policy_kl(old, reference, MASK) == pytest.approx(wanted)
    assert policy_kl(old, reference, MASK * 0) == (0.0, 0.0)


def test_unfinished_is_worse_than_the_worst_finished_one():
    scores = torch.tensor([3.0, -2.0, 50.0, -7.0])
    finished = torch.tensor([True, True, False, False])
    assert punish_unfinished(scores, finished).tolist() == [3, -2, -3, -3]
    assert punish_unfinished(scores, finished, 0.5).tolist() == [3, -2, -2.5, -2.5]
    assert punish_unfinished(scores, finished & False).tolist() == [-1] * 4
    assert punish_unfinished(scores, finished | True).tolist() == scores.tolist()
