"""A reward model against people's preferences, and judges that see only lengths."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data.embedded import tales_pairs
from folio.data.records import Pair
from folio.evals.answers import wilson
from folio.evals.preference import (
    by_category,
    calibration,
    fit_lengths,
    judge_pairs,
    margins_by,
    score_margins,
    shuffled,
)

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def pair(chosen: str, rejected: str, category: str = "") -> Pair:
    asked = ({"role": "user", "content": "Who?"},)
    return Pair(asked, chosen, rejected, category=category)


def tales(split: str, count: int = 300) -> list[Pair]:
    source = tales_pairs(split=split)
    return [source.make(i) for i in range(count)]


def by_answer(judge):
    """A `Score` that looks at the answers."""
    return lambda asked: [judge(answer) for _, answer in asked]


def test_each_answer_is_scored_after_its_own_prompt():
    pairs = [
        Pair(({"role": "user", "content": str(i)},), f"{i}+", f"{i}-") for i in range(9)
    ]

    def score(asked):
        assert all(said[0]["content"] == answer[0] for said, answer in asked)
        return [int(a[0]) * (1.0 if a[1] == "+" else 0.25) for _, a in asked]

    assert score_margins(score, pairs) == [i * 0.75 for i in range(9)]


def test_accuracy_by_category_with_ties_and_wilsons_intervals():
    pairs = [pair("a", "b", c) for c in ("style", "style", "content", "", "style")]
    found = by_category(pairs, [2.0, 0.0, -1.0, 0.5, -0.1])
    assert list(found) == ["all", "content", "style"]
    assert found["all"].mean == pytest.approx(2.5 / 5)
    assert found["style"].mean == pytest.approx(1.5 / 3)
    assert found["content"].mean == 0
    assert (found["style"].low, found["style"].high) == wilson(0.5, 3)
    assert found["all"].count == 5


def test_a_model_that_says_the_same_of_everything_has_one_half():
    report = judge_pairs(by_answer(lambda answer: 7.0), tales("validation", 50))
    assert {measure.mean for measure in report.accuracy.values()} == {0.5}
    assert report.calibration.error == 0


def test_longer_and_shorter_share_the_pairs_and_halve_the_ties():
    pairs = [pair("aa", "b"), pair("a", "bb"), pair("a", "b"), pair("aaa", "b")]
    report = judge_pairs(by_answer(len), pairs)
    assert report.baselines["longer wins"]["all"].mean == 2.5 / 4
    assert report.baselines["shorter wins"]["all"].mean == 1.5 / 4
    assert report.accuracy == report.baselines["longer wins"]
    assert "length fitted" not in report.baselines


def test_shuffled_labels_leave_luck():
    pairs = tales("validation")

    def taste(answer):  # right about style, always
        return float(answer.startswith("Sure!"))

    report = judge_pairs(by_answer(taste), pairs)
    assert report.accuracy["style"].mean == 1
    half = report.baselines["labels shuffled"]["style"]
    assert half.low < 0.5 < half.high
    assert shuffled([1.0] * 9, seed=1) != shuffled([1.0] * 9, seed=2)
    assert {abs(margin) for margin in shuffled([2.0, -3.0])} == {2.0, 3.0}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1))
@SETTINGS
def test_the_fitted_lengths_are_where_the_likelihood_has_no_slope(lengths):
    pairs = [pair("x" * a, "x" * b) for a, b in lengths]
    score = fit_lengths(pairs)
    weights = torch.tensor([score.slope, score.bend], dtype=torch.float64)
    weights.requires_grad_()

    def z(text):
        return (len(text) - score.mean) / score.deviation

    x = [
        [z(p.chosen) - z(p.rejected), z(p.chosen) ** 2 - z(p.rejected) ** 2]
        for p in pairs
    ]
    margins = torch.tensor(x, dtype=torch.float64) @ weights
    assert margins.tolist() == pytest.approx(margins_by(score, pairs), abs=1e-9)
    loss = -margins.sigmoid().log().sum() + weights.square().sum() / 2
    loss.backward()
    assert weights.grad.abs().max() < 1e-3


def test_a_fitted_length_finds_out_what_lengths_give_away():
    """The preferred style is the second longest: no slope finds it, a bend does."""
    training, held_out = (
        [pair for pair in tales(split) if pair.category == "style"]
        for split in ("train", "validation")
    )
    baselines = judge_pairs(by_answer(len), held_out, training).baselines
    simple = [baselines[f"{way} wins"]["style"].mean for way in ("longer", "shorter")]
    assert baselines["length fitted"]["style"].mean > max(simple) + 0.1
    assert fit_lengths(training).bend < 0


def test_calibration_of_a_model_that_knows_its_chances():
    """Margins drawn so that each pair is right as often as its margin says."""
    rng = random.Random(0)
    margins = []
    for _ in range(20_000):
        margin = rng.uniform(0, 4)
        right = rng.random() < 1 / (1 + math.exp(-margin))
        margins.append(margin if right else -margin)
    found = calibration(margins)
    assert len(found.bins) == 5
    assert found.error < 0.015
    for one in found.bins:
        assert one.accuracy.mean == pytest.approx(one.confidence, abs=0.03)
    boasting = calibration([3 * margin for margin in margins])
    assert boasting.error > 0.05


def test_bins_cover_all_pairs_once_and_the_error_is_their_weighted_gap():
    margins = [0.0, 0.1, -0.5, 1.0, -2.0, 30.0, -800.0]
    found = calibration(margins, bins=4)
    assert sum(one.accuracy.count for one in found.bins) == len(margins)
    gaps = [
        one.accuracy.count * abs(one.confidence - one.accuracy.mean)
        for one in found.bins
    ]
    assert found.error == pytest.approx(sum(gaps) / len(margins))
    confidences = [one.confidence for one in found.bins]
    assert confidences == sorted(confidences)
    assert all(0.5 <= confidence <= 1 for confidence in confidences)


def test_without_pairs_there_is_nothing_to_judge():
    with pytest.raises(UserError, match="no pairs to judge"):
        judge_pairs(by_answer(len), [])
    with pytest.raises(UserError, match="no pairs to fit"):
        fit_lengths([])
