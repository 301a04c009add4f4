"""Degenerate answers, scores against the truth, and all of it in one table."""

import json

import pytest

from folio.config import UserError
from folio.data import tales
from folio.data.embedded import tales_accuracy, tales_prompts, tales_score
from folio.data.records import Pair, Prompt
from folio.evals.preference import judge_pairs
from folio.evals.sanity import (
    Known,
    Sanity,
    degenerate_answers,
    judge_answers,
    judge_degenerate,
)


def prompt(text: str, gold: str, task: str = "all") -> Prompt:
    return Prompt(({"role": "user", "content": text},), gold, gold, task)


def by_answer(judge):
    return lambda asked: [judge(answer) for _, answer in asked]


PROMPTS = [
    prompt("Who sat?", "A red hen.", "who"),
    prompt("How many?", "12", "count"),
    prompt("Who ran?", "A fox.", "who"),
]


def test_degenerate_answers_by_hand():
    found = {(i, kind): answer for i, kind, answer in degenerate_answers(PROMPTS)}
    assert found[0, "empty"] == ""
    assert found[0, "repeated"] == " ".join(["hen."] * 8)
    assert found[0, "truncated"] == "A red"
    assert found[1, "prompt echoed"] == "How many?"
    assert found[0, "of another"] == "A fox."  # of the same task, not the next one
    assert found[1, "of another"] == "A fox."  # nobody else counts
    assert found[2, "of another"] == "A red hen."
    assert len(found) == 15


def test_what_is_the_gold_answer_is_not_degenerate():
    asked = [prompt("no", ""), prompt("yes", "yes"), prompt("x", "x")]
    found = [(i, kind) for i, kind, _ in degenerate_answers(asked[:2])]
    assert (0, "empty") not in found
    assert (1, "prompt echoed") not in found
    assert [kind for _, kind, _ in degenerate_answers(asked[2:])] == [
        "empty",
        "repeated",
    ]  # half a letter is nothing, and there is no other


def test_degenerate_answers_stand_beside_the_gold_answer_of_their_prompt():
    gold = {one.text: one.response for one in PROMPTS}

    def score(asked):
        return [
            2.0 if answer == gold[said[-1]["content"]] else float(len(answer) > 25)
            for said, answer in asked
        ]

    found = judge_degenerate(score, PROMPTS)
    assert list(found) == [
        "empty",
        "repeated",
        "truncated",
        "prompt echoed",
        "of another",
    ]
    assert {one.below.mean for one in found.values()} == {1.0}
    assert {one.gold for one in found.values()} == {2.0}
    assert found["repeated"].score == pytest.approx(2 / 3)  # "12 12 ..": 23 characters

    by_length = judge_degenerate(by_answer(len), PROMPTS)
    assert by_length["empty"].below.mean == 1
    assert by_length["repeated"].below.mean == 0
    assert by_length["truncated"].below.mean == 1
    tied = judge_degenerate(by_answer(lambda answer: 1.0), PROMPTS)
    assert {one.below.mean for one in tied.values()} == {0.5}


def all_answers(item) -> list[Known]:
    """Every style, right and wrong."""
    texts = [form.format(a) for a in (item.answer, item.wrong) for form in tales.STYLES]
    return [Known(t, True, tales.score(item, t), item.answer in t) for t in texts]


def world(count: int = 30):
    source = tales_prompts(split="validation", tasks=("sort", "date"))
    prompts = [source.make(i) for i in range(count)]
    return prompts, [all_answers(one.item) for one in prompts]


def test_the_truth_itself_is_a_perfect_reward_model():
    prompts, answers = world()
    items = {one.text: one for one in prompts}

    def gold(asked):
        return [tales_score(items[said[-1]["content"]], a, True) for said, a in asked]

    report = judge_answers(gold, prompts, answers)
    assert report.rank_correlation == pytest.approx(1)
    assert [row.n for row in report.best_of] == [1, 2, 4, 8]
    assert [row.truth.mean for row in report.best_of] == pytest.approx(
        [row.best for row in report.best_of]
    )
    assert report.best_of[0].truth.mean == pytest.approx(0.5 + 0.5 / 4)
    assert report.best_of[-1].best == 1.5
    assert report.length_bias is None  # equals are scored alike
    assert (report.count, report.unfinished) == (240, 0)
    assert tales_accuracy(prompts[0], answers[0][0].text, True) == answers[0][0].right


def test_a_judge_of_length_alone_is_found_out():
    prompts, answers = world()
    report = judge_answers(by_answer(len), prompts, answers)
    assert report.length_bias == pytest.approx(1)
    assert report.best_of[-1].truth.mean < 1.1 < report.best_of[-1].best
    assert abs(report.rank_correlation) < 0.3
    shorter = judge_answers(by_answer(lambda a: -len(a)), prompts, answers)
    assert shorter.length_bias == pytest.approx(-1)


def test_length_bias_looks_only_at_right_answers_of_equal_worth():
    """Wrong answers, and better ones, are longer and score higher: no bias in that."""
    answers = [
        [
            Known("aa", True, 1.0, True),
            Known("aaaa", True, 1.0, True),
            Known("a" * 9, True, 1.5, True),
            Known("a" * 50, True, 0.0, False),
            Known("a" * 99, True, 0.0, False),
        ],
        [Known("aaa", True, 1.0, True), Known("aaaaa", True, 1.0, True)],
    ]
    table = {"aa": 1.0, "aaaa": 0.0, "aaa": 5.0, "aaaaa": 4.0}
    report = judge_answers(
        by_answer(lambda a: table.get(a, float(len(a)))),
        [prompt("a", "b"), prompt("c", "d")],
        answers,
    )
    assert report.length_bias < -0.99


def test_unfinished_answers_are_not_scored_and_never_chosen():
    asked = []

    def score(given):
        asked.extend(answer for _, answer in given)
        return [-100.0 for _ in given]

    answers = [[Known("endless", False, 0.0, False), Known("ok", True, 1.0, True)]]
    report = judge_answers(score, [prompt("a", "ok")], answers)
    assert asked == ["ok"]
    assert (report.count, report.unfinished) == (2, 1)
    assert [row.truth.mean for row in report.best_of] == [0.5, 1.0]
    with pytest.raises(UserError, match="no answer has ended"):
        judge_answers(score, [prompt("a", "ok")], [answers[0][:1]])


def test_one_table_and_one_json():
    prompts, answers = world(6)
    pairs = [
        Pair(p.messages, p.response, p.item.wrong, category=c)
        for p, c in zip(prompts, ["style", "content"] * 3, strict=True)
    ]
    score = by_answer(lambda answer: float(answer.count("e")))
    sanity = Sanity(
        judge_pairs(score, pairs, pairs),
        judge_degenerate(score, prompts),
        judge_answers(score, prompts, answers),
    )
    table = sanity.table()
    head, model, *_ = table.splitlines()
    assert head.split() == ["pair", "accuracy", "all", "(6)", "content", "(3)", "style",
                            "(3)"]  # fmt: skip
    assert model.split()[:3] == ["reward", "model", "1.000"]
    for words in (
        "length fitted",
        "labels shuffled",
        "calibration error",
        "of another",
    ):
        assert words in table
    assert "rank correlation of score and truth   +" in table
    found = json.loads(json.dumps(sanity.to_dict()))
    assert found["pairs"]["accuracy"]["all"]["mean"] == 1
    assert found["degenerate"]["empty"]["below"]["count"] == 6
    assert [row["n"] for row in found["answers"]["best_of"]] == [1, 2, 4, 8]
    only_pairs = Sanity(judge_pairs(score, pairs))
    assert "degenerate" not in only_pairs.table()
    assert only_pairs.to_dict()["answers"] is None
