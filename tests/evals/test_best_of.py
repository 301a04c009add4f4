"""Best of n against all draws there are."""

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data.records import Prompt
from folio.evals.answers import Answer
from folio.evals.best_of import best_of_curve, best_of_n, best_of_n_kl, choosing
from folio.infer.sampling import GREEDY, Sampling

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=80)
NUMBERS = st.tuples(st.integers(0, 3), st.integers(-2, 2))  # many equal scores


@given(st.lists(NUMBERS, min_size=1, max_size=6), st.data())
@SETTINGS
def test_it_is_the_mean_over_all_draws(answers, data):
    n = data.draw(st.integers(1, len(answers)))
    kept = []
    for draw in combinations(answers, n):
        top = max(score for score, _ in draw)
        kept.append(fmean(truth for score, truth in draw if score == top))
    scores, truth = zip(*answers, strict=True)
    assert best_of_n(scores, truth, n) == pytest.approx(fmean(kept))


def test_choosing_by_a_bad_model_is_worse_than_not_choosing():
    scores, truth = [[1.0, 2.0, 3.0, 4.0]], [[1.0, 1.0, 1.0, 0.0]]
    curve = best_of_curve(scores, truth)
    assert [row.n for row in curve] == [1, 2, 4]
    assert [row.truth.mean for row in curve] == [0.75, 0.5, 0.0]
    assert [row.best for row in curve] == [0.75, 1.0, 1.0]
    assert [row.score for row in curve] == pytest.approx([2.5, 10 / 3, 4])


def test_a_curve_ends_where_one_prompt_has_too_few_answers():
    scores = [[0.0] * 8, [0.0] * 3]
    curve = best_of_curve(scores, scores)
    assert [row.n for row in curve] == [1, 2]
    assert curve[0].truth.count == 2  # prompts
    assert best_of_curve([], []) == []


def test_distance_grows_with_n_from_nothing():
    kls = [best_of_n_kl(n) for n in (1, 2, 4, 8)]
    assert kls[0] == 0
    assert kls == sorted(kls)


def test_what_cannot_be_drawn_is_refused():
    for n in (0, 3):
        with pytest.raises(ValueError, match=rf"n = {n}: must lie in 1\.\.2"):
            best_of_n([1.0, 2.0], [1.0, 2.0], n)
    with pytest.raises(ValueError, match="2 scores, but the truth of 1"):
        best_of_n([1.0, 2.0], [1.0], 1)


def test_the_highest_scored_of_n_is_the_answer():
    """Two answers to each of two prompts, each chosen from three."""
    said = [Answer(f"{i}", i != 4) for i in (1, 3, 2, 5, 4, 0)]  # "4" never ended
    prompts = [Prompt(({"role": "user", "content": c},), "", "") for c in "ab"]
    asked = []

    def respond(given, sampling, n):
        asked.append(n)
        return [said[:n]] * len(given)

    def score(answered):
        return [float(text) for _, text in answered]

    best = choosing(respond, score, 3)
    assert best(prompts, Sampling(), 2) == [[Answer("3", True), Answer("5", True)]] * 2
    unfinished = choosing(respond, lambda pairs: [-float(t) for _, t in pairs], 3)
    assert unfinished(prompts, Sampling(), 2)[0][1] == Answer("0", True)
    assert best(prompts, GREEDY, 1) == [[said[0]]] * 2
    assert choosing(respond, score, 1)(prompts, Sampling(), 2) == [said[:2]] * 2
    assert asked == [6, 6, 1, 2]
    with pytest.raises(UserError, match="n = 0"):
        choosing(respond, score, 0)
