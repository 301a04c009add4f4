"""Answers against gold: each measure by hand, and one evaluator for all stages."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.config import UserError
from folio.data.embedded import TALES_SCORES, tales_accuracy, tales_prompts
from folio.data.records import Prompt
from folio.evals.answers import (
    Answer,
    AnswerEvaluator,
    Measure,
    exact_match,
    normalized,
    numeric_match,
    pass_at_k,
    rouge_l,
    token_f1,
    wilson,
)
from folio.infer.sampling import GREEDY, Sampling

SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=60)
WORDS = st.lists(st.sampled_from(["red", "hen", "sat", "on", "eggs"]), max_size=7)


def prompt(text, answer, task="all"):
    return Prompt(({"role": "user", "content": text},), answer, answer, task)


def test_exact_match_needs_every_letter_and_the_end():
    assert exact_match("Yes.", "Yes.") == 1
    assert exact_match("Yes.", "Yes.", finished=False) == 0
    assert exact_match("yes.", "Yes.") == 0
    assert exact_match("Yes. ", "Yes.") == 0


def test_normalizing_keeps_words_and_numbers():
    assert normalized("The  answer, is: a 3.5!") == "answer is 35"
    assert normalized("theatre an") == "theatre"


@pytest.mark.parametrize(
    ("response", "gold", "f1", "rouge"),
    [
        ("red hen", "red hen", 1, 1),
        ("", "", 1, 1),
        ("", "hen", 0, 0),
        ("hen red", "red hen", 1, 0.5),  # the order counts for ROUGE-L only
        ("red red hen", "red hen", 0.8, 0.8),  # 2 of 3, 2 of 2
        ("fox", "hen", 0, 0),
    ],
)
def test_overlap_by_hand(response, gold, f1, rouge):
    assert token_f1(response, gold) == pytest.approx(f1)
    assert rouge_l(response, gold) == pytest.approx(rouge)


@given(WORDS, WORDS)
@SETTINGS
def test_rouge_l_is_the_longest_common_subsequence(ours, theirs):
    if not ours or not theirs:
        return
    longest = max(
        size
        for size in range(len(ours) + 1)
        for chosen in combinations(ours, size)
        if chosen in set(combinations(theirs, size))
    )
    wanted = 2 * longest / (len(ours) + len(theirs))
    assert rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(wanted)


def test_numeric_match_asks_only_for_the_number():
    assert numeric_match("So it is 1,072.", "1072.0") == 1
    assert numeric_match("1072 or 3", "1072") == 0
    assert numeric_match("no idea", "1072") == 0
    assert numeric_match("1072", "many") is None


@given(st.integers(1, 8), st.data())
@SETTINGS
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(samples, data):
    right = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    draws = list(combinations(range(samples), k))
    wanted = sum(min(draw) < right for draw in draws) / len(draws)
    assert pass_at_k(samples, right, k) == pytest.approx(wanted)


@pytest.mark.parametrize("k", [0, 5])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(UserError, match=f"k = {k}: must lie in 1..4"):
        pass_at_k(4, 1, k)
    with pytest.raises(UserError, match=f"k = {k}"):
        AnswerEvaluator([prompt("a", "b")], samples=4, ks=[k])


@given(st.integers(1, 500), st.data())
@SETTINGS
def test_wilsons_ends_are_where_the_share_is_just_possible(count, data):
    """p is an end iff |share - p| = z sqrt(p (1 - p) / n): the definition."""
    share = data.draw(st.integers(0, count)) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for end in (low, high):
        distance = 1.959964 * math.sqrt(end * (1 - end) / count)
        assert abs(share - end) == pytest.approx(distance, abs=1e-7)


def test_a_reward_above_one_has_the_normal_interval():
    measure = Measure.of([0.0, 1.5, 1.5, 1.0])
    assert measure.mean == 1.0
    spread = math.sqrt((1 + 0.25 + 0.25 + 0) / 3)
    assert measure.high - measure.mean == pytest.approx(1.959964 * spread / 2)
    assert Measure.of([1.0, 0.0]).low == wilson(0.5, 2)[0]


PROMPTS = [prompt("a", "1", "odd"), prompt("b", "2", "even"), prompt("c", "3", "odd")]


def respond(prompts, sampling, n):
    """Right for "a", right every second time for "b", never finished for "c"."""
    assert sampling.temperature == (0 if n == 1 else 1)
    found = []
    for one in prompts:
        texts = [one.answer if one.text != "b" or i % 2 == 0 else "5" for i in range(n)]
        found.append([Answer(text, one.text != "c") for text in texts])
    return found


def test_results_by_way_task_and_measure():
    results = AnswerEvaluator(PROMPTS, samples=4, ks=(1, 2))(respond)
    assert set(results) == {"greedy", "sampled"}
    assert set(results["greedy"]) == {"all", "odd", "even"}
    greedy, sampled = results["greedy"]["all"], results["sampled"]["all"]
    assert greedy["exact"].mean == pytest.approx(2 / 3)
    assert greedy["f1"].mean == 1
    assert greedy["numeric"].mean == 1
    assert greedy["finished"].mean == pytest.approx(2 / 3)
    assert greedy["exact"].count == 3
    assert "pass@1" not in greedy
    assert sampled["exact"].mean == pytest.approx((1 + 0.5 + 0) / 3)
    assert sampled["exact"].count == 3  # prompts, not samples
    assert sampled["pass@1"].mean == pytest.approx((1 + 0.5 + 0) / 3)
    assert sampled["pass@2"].mean == pytest.approx((1 + 5 / 6 + 0) / 3)
    assert results["sampled"]["even"]["exact"].mean == 0.5
    assert results["sampled"]["odd"]["exact"].mean == 0.5
    assert results["greedy"]["odd"]["exact"].count == 2


def test_the_embedded_worlds_rows():
    source = tales_prompts(split="test")
    prompts = [source.make(i) for i in range(40)]
    evaluator = AnswerEvaluator(
        prompts, samples=2, scores=TALES_SCORES, right=tales_accuracy, ks=(2,)
    )

    def plain(prompts, sampling, n):
        return [[Answer(one.answer, True)] * n for one in prompts]

    results = evaluator(plain)
    found = results["sampled"]["all"]
    assert (found["gold"].mean, found["accuracy"].mean) == (1.0, 1.0)
    assert (found["style"].mean, found["exact"].mean) == (0.0, 0.0)
    assert found["pass@2"].mean == 1.0

    def best(prompts, sampling, n):
        return [[Answer(one.response, True)] * n for one in prompts]

    found = evaluator(best)["greedy"]["all"]
    assert (found["gold"].mean, found["exact"].mean) == (1.5, 1.0)
    counts = [m["gold"].count for t, m in results["greedy"].items() if t != "all"]
    assert sum(counts) == 40


def test_a_prompt_without_a_number_has_no_numeric_measure():
    prompts = [prompt("a", "red"), prompt("b", "2")]
    results = AnswerEvaluator(prompts)(
        lambda asked, sampling, n: [[Answer("2", True)] * n for _ in asked]
    )
    assert results["greedy"]["all"]["numeric"] == Measure.of([1.0])


def test_a_broken_score_names_its_prompt():
    evaluator = AnswerEvaluator(PROMPTS, scores={"mine": lambda p, r, f: math.nan})
    with pytest.raises(UserError, match="'a' returned nan"):
        evaluator(respond)


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(UserError, match="held-out part is empty"):
        AnswerEvaluator([])
    with pytest.raises(UserError, match="samples = 0"):
        AnswerEvaluator(PROMPTS, samples=0)
    with pytest.raises(UserError, match="'f1' is a measure already"):
        AnswerEvaluator(PROMPTS, scores={"f1": tales_accuracy})
    with pytest.raises(ValueError, match="expected 1 answers to each of 3"):
        AnswerEvaluator(PROMPTS)(lambda prompts, sampling, n: [])


def test_only_the_same_questions_and_ways_have_one_fingerprint():
    same = AnswerEvaluator(PROMPTS).fingerprint
    assert same == AnswerEvaluator(list(PROMPTS)).fingerprint
    others = [
        AnswerEvaluator(PROMPTS[:2]),
        AnswerEvaluator(PROMPTS, samples=8),
        AnswerEvaluator(PROMPTS, sampling=Sampling(0.7)),
        AnswerEvaluator(PROMPTS, scores=TALES_SCORES),
        AnswerEvaluator(PROMPTS, right=tales_accuracy),
    ]
    assert len({same, *(other.fingerprint for other in others)}) == 6
    assert GREEDY.temperature == 0
