"""Sampling: each cut by its definition, their order, and the chances that result."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.infer.sampling import (
    GREEDY,
    Sampling,
    adjust,
    choose,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)


def scores(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def kept(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero()[:, 0].tolist()


def chances(logits: torch.Tensor, sampling: Sampling, seen=None) -> torch.Tensor:
    return adjust(logits, sampling, seen).softmax(-1)[0]


# The definitions


def test_top_p_keeps_the_token_that_crosses_p():
    logits = scores(0.5, 0.3, 0.15, 0.05)
    assert kept(keep_top_p(logits, 0.7)) == [0, 1]
    assert kept(keep_top_p(logits, 0.4)) == [0]
    assert kept(keep_top_p(logits, 0.51)) == [0, 1]
    assert kept(keep_top_p(logits, 0.9)) == [0, 1, 2]
    assert kept(keep_top_p(logits, 0.96)) == [0, 1, 2, 3]
    # The order of the vocabulary means nothing.
    assert kept(keep_top_p(scores(0.05, 0.3, 0.15, 0.5), 0.7)) == [1, 3]


@pytest.mark.parametrize("p", [1e-9, 0.2, 0.5])
def test_top_p_always_keeps_the_likeliest(p):
    assert kept(keep_top_p(scores(0.1, 0.6, 0.3), p)) == [1]


def test_top_p_of_one_keeps_all_however_small():
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(1, 50_000, generator=generator)
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_top_p_takes_the_first_of_equals():
    assert kept(keep_top_p(torch.zeros(1, 64), 0.25)) == list(range(16))


def test_top_p_cuts_each_row_by_itself():
    rows = torch.cat([scores(0.9, 0.05, 0.05), scores(0.4, 0.3, 0.3)])
    assert keep_top_p(rows, 0.6).isfinite().sum(-1).tolist() == [1, 2]


def test_top_k_keeps_k_and_what_ties_with_the_last():
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]])
    assert kept(keep_top_k(logits, 1)) == [1]
    assert kept(keep_top_k(logits, 2)) == [1, 2, 3]
    assert kept(keep_top_k(logits, 3)) == [1, 2, 3]
    assert kept(keep_top_k(logits, 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("k", [5, 6, 1000])
def test_top_k_beyond_the_vocabulary_keeps_all(k):
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]])
    assert torch.equal(keep_top_k(logits, k), logits)


def test_min_p_keeps_what_is_near_the_likeliest():
    logits = scores(0.6, 0.3, 0.07, 0.03)
    assert kept(keep_min_p(logits, 0.04)) == [0, 1, 2, 3]
    assert kept(keep_min_p(logits, 0.1)) == [0, 1, 2]
    assert kept(keep_min_p(logits, 0.4)) == [0, 1]
    assert kept(keep_min_p(logits, 1.0)) == [0]
    assert kept(keep_min_p(torch.zeros(1, 4), 1.0)) == [0, 1, 2, 3]


def test_temperature_is_a_power_of_the_chances():
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    for temperature in (0.3, 0.7, 1.0, 2.5):
        wanted = probabilities ** (1 / temperature)
        found = chances(probabilities.log()[None], Sampling(temperature))
        assert torch.allclose(found, wanted / wanted.sum(), atol=1e-6)


def test_repetition_penalty_makes_the_seen_unlikelier_whatever_their_sign():
    logits = torch.tensor([[2.0, -2.0, 0.0, 2.0]])
    seen = torch.tensor([[True, True, True, False]])
    assert penalize_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 0.0, 2.0]]
    assert torch.equal(penalize_repetition(logits, seen, 1.0), logits)


def test_the_order_is_penalty_temperature_top_k_top_p_min_p():
    logits = torch.tensor([[2.0, 1.9, 1.0, -1.0, -3.0]])
    seen = torch.tensor([[True, False, False, False, False]])
    sampling = Sampling(0.5, top_k=3, top_p=0.95, min_p=0.1, repetition_penalty=1.5)
    step = penalize_repetition(logits, seen, 1.5) / 0.5
    step = keep_min_p(keep_top_p(keep_top_k(step, 3), 0.95), 0.1)
    assert torch.allclose(chances(logits, sampling, seen), step.softmax(-1)[0])
    # Each cut works on what the last one left: of the two that top-k keeps, 0.9 of
    # the mass is reached by the first; of all four it would not be.
    peaked = scores(0.5, 0.05, 0.225, 0.225)
    assert kept(adjust(peaked, Sampling(top_p=0.7))) == [0, 2]
    assert kept(adjust(peaked, Sampling(top_k=3, top_p=0.5))) == [0]
    assert kept(adjust(scores(0.6, 0.04, 0.36), Sampling(top_k=2, top_p=0.62))) == [0]
    # Temperature comes before top-p: flatter chances need more tokens.
    assert kept(adjust(peaked, Sampling(2.0, top_p=0.7))) == [0, 2, 3]


def test_scores_are_not_changed_in_place():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    before = logits.clone()
    seen = torch.tensor([[True, False, False]])
    adjust(logits, Sampling(0.5, 2, 0.5, 0.5, 2.0), seen)
    assert torch.equal(logits, before)


# What is drawn


def test_greedy_is_the_first_of_the_highest():
    logits = torch.tensor([[1.0, 3.0, 3.0], [5.0, 3.0, 3.0]])
    assert choose(logits, GREEDY).tolist() == [1, 0]
    assert choose(logits, Sampling(0.0, top_k=1, top_p=0.1)).tolist() == [1, 0]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(0.5),
        Sampling(2.0, top_k=3),
        Sampling(top_p=0.7),
        Sampling(min_p=0.2),
        Sampling(0.8, top_k=4, top_p=0.9, min_p=0.05, repetition_penalty=1.3),
    ],
)
def test_draws_have_the_chances_of_the_adjusted_scores(sampling):
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, 1.5]])
    seen = torch.tensor([[True, False, False, True, False, False]])
    count = 40_000
    drawn = choose(
        logits.expand(count, -1),
        sampling,
        torch.Generator().manual_seed(0),
        seen.expand(count, -1),
    )
    found = torch.bincount(drawn, minlength=6) / count
    wanted = chances(logits, sampling, seen)
    assert (found - wanted).abs().max() < 0.0125  # five standard deviations
    assert found[wanted == 0].sum() == 0


def test_a_seed_decides_what_is_drawn():
    logits = torch.zeros(50, 100)

    def draw(seed: int) -> list[int]:
        return choose(logits, Sampling(), torch.Generator().manual_seed(seed)).tolist()

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    choose(torch.zeros(5, 9), Sampling(), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_is_sampled_in_fp32():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        adjusted = adjust(torch.zeros(1, 5, dtype=dtype), Sampling(0.5, top_p=0.5))
        assert adjusted.dtype == torch.float32


choices = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-40, 1e-30, 1e-5, 0.01, 0.7, 1.0, 5.0, 1e30]),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.none() | st.sampled_from([1e-30, 1e-9, 0.1, 0.5, 0.999999, 1.0]),
    min_p=st.none() | st.sampled_from([1e-30, 0.01, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([1e-3, 0.5, 1.0, 1.3, 1e4]),
)
numbers = st.sampled_from([-float("inf"), -3e38, -1e4, -1.0, 0.0, 1.0, 2.0, 88.0, 1e4])


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(
    choices,
    st.lists(numbers, min_size=1, max_size=9).filter(lambda r: max(r) > -1e30),
    st.integers(0, 2**9 - 1),
)
def test_no_combination_leaves_nothing(sampling, row, seen_bits):
    logits = torch.tensor([row])
    seen = torch.tensor([[bool(seen_bits >> i & 1) for i in range(len(row))]])
    possible = chances(logits, sampling, seen)
    assert not possible.isnan().any()
    assert possible.sum().item() == pytest.approx(1, abs=1e-5)
    token = choose(logits, sampling, torch.Generator().manual_seed(0), seen).item()
    assert row[token] > -float("inf")
    assert possible[token] > 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"top_k": 0}, "top_k = 0: must be at least 1"),
        ({"top_p": 0.0}, r"top_p = 0.0: must lie in \(0, 1\]"),
        ({"top_p": 1.1}, "top_p = 1.1"),
        ({"top_p": float("nan")}, "top_p = nan"),
        ({"min_p": -0.5}, "min_p = -0.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty = nan"),
    ],
)
def test_impossible_settings_are_named(fields, words):
    with pytest.raises(UserError, match=words):
        Sampling(**fields)
