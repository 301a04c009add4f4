"""A judge of answers: honest, biased, muddled and silent ones, each a stub server."""

import re

import pytest

from folio.config import UserError
from folio.evals.chat_api import ChatApi
from folio.evals.judge import (
    OUTCOMES,
    PAIR,
    SINGLE,
    Case,
    GradeReport,
    PairReport,
    check_template,
    filled,
    judge_pairs,
    judge_singles,
    read_grade,
    read_verdict,
    told,
)
from judges import stub_server


def case(answer, other="", **more):
    return Case(({"role": "user", "content": "Who has it?"},), answer, other, **more)


def shown_answers(prompt):
    """What the judge was shown as A and as B."""
    found = re.search(
        r"\[Answer A\]\n(.*)\n\[End.*\[Answer B\]\n(.*)\n\[End", prompt, re.S
    )
    return found[1], found[2]


def honest(prompt):
    """Prefers the answer with more "right" in it."""
    a, b = (answer.count("right") for answer in shown_answers(prompt))
    return f"Well.\n[[{'A' if a > b else 'B' if b > a else 'tie'}]]"


def api_of(stub):
    return ChatApi(stub.url, "judge", tries=2, sleep=lambda seconds: None)


def test_an_honest_judge_is_heard_in_both_orders():
    cases = [
        case("right", "no"),
        case("no", "right"),
        case("yes", "no"),
        case("a", "a"),
    ]
    with stub_server(honest) as stub:
        judged = judge_pairs(api_of(stub), cases)
    assert [one.outcome for one in judged] == ["win", "loss", "tie", "tie"]
    assert len(stub.asked) == 6  # of equal answers nobody is asked
    orders = [shown_answers(body["messages"][0]["content"]) for body in stub.asked]
    assert sorted(orders)[:2] == [("no", "right"), ("no", "right")]
    report = PairReport.of(judged)
    assert report.outcomes == dict.fromkeys(OUTCOMES, 0) | {
        "win": 1,
        "loss": 1,
        "tie": 2,
    }
    assert report.wins.mean == 0.5
    assert report.first.mean == 0.5


def test_a_judge_that_likes_the_first_is_found_out():
    cases = [case(f"a{i}", f"b{i}") for i in range(5)]
    with stub_server(lambda prompt: "[[A]]") as stub:
        judged = judge_pairs(api_of(stub), cases)
    report = PairReport.of(judged)
    assert report.outcomes["inconsistent"] == 5
    assert report.wins.mean == 0.5  # neither run has gained by it
    assert report.first.mean == 1.0


def test_what_cannot_be_read_is_counted_and_no_loss():
    def muddled(prompt):
        return "Both are fine. [[A]] perhaps, or [[B]]" if "odd" in prompt else "[[A]]"

    with stub_server(muddled) as stub:
        judged = judge_pairs(api_of(stub), [case("odd", "b")])
    report = PairReport.of(judged)
    assert report.outcomes["unreadable"] == 1
    assert report.outcomes["loss"] == 0
    assert report.wins is None
    assert report.first is None
    assert "win rate" in report.table()


def test_who_gets_no_verdict_is_counted_apart():
    def answer(prompt):
        return (500, "", {}) if "odd" in shown_answers(prompt)[1] else "[[A]]"

    with stub_server(answer) as stub:
        cases = [case("a", "b"), case("c", "odd")]
        judged = judge_pairs(api_of(stub), cases, say=lambda text: None)
    assert [one.outcome for one in judged] == ["inconsistent", "unanswered"]
    assert PairReport.of(judged).wins.count == 1


def test_grades():
    def grade(prompt):
        return (
            "Hm." if "odd" in prompt else (500, "", {}) if "bad" in prompt else "[[8]]"
        )

    with stub_server(grade) as stub:
        cases = [case("fine"), case("odd"), case("bad"), case("good")]
        judged = judge_singles(api_of(stub), cases, say=lambda text: None)
    report = GradeReport.of(judged)
    assert [one.outcome for one in judged] == [8, None, None, 8]
    assert (report.grades.mean, report.grades.count) == (8.0, 2)
    assert (report.unreadable, report.unanswered) == (1, 1)
    assert "mean grade" in report.table()


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[[A]]", "A"),
        ("I think:\n\n[[tie]]\n\n", "tie"),
        ("Answer B says [[A]].\nSo the verdict is [[B]].", "B"),
        ("[[A]]\nThat is all.", None),
        ("[[C]]", None),
        ("[[ A ]]", None),
        ("[[A]] [[A]]", None),
        ("A", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_strictly(text, verdict):
    assert read_verdict(text) == verdict


@pytest.mark.parametrize("text", ["[[0]]", "[[11]]", "[[7.5]]", "[[-1]]", "[[٣]]", "7"])
def test_a_grade_is_read_strictly(text):
    assert read_grade(text) is None


def test_an_answer_cannot_fill_in_the_template():
    values = {"question": "{answer_b}", "answer_a": "{question}", "answer_b": r"\1"}
    assert (
        filled("{question}|{answer_a}|{answer_b}", values)
        == r"{answer_b}|{question}|\1"
    )


def test_templates_must_show_what_is_judged():
    check_template(PAIR, ("question", "answer_a", "answer_b"))
    check_template(SINGLE, ("question", "answer"))
    with pytest.raises(UserError, match=r"template: has no \{answer_b\}"):
        judge_pairs(ChatApi("http://localhost/v1", "x"), [], "{question}{answer_a}")
    with pytest.raises(UserError, match=r"template: has no \{answer\}"):
        judge_singles(ChatApi("http://localhost/v1", "x"), [], "{question}")


def test_a_known_answer_is_shown_if_the_template_wants_it():
    template = "{question} {answer} {reference}"
    with stub_server(lambda prompt: "[[5]]") as stub:
        judge_singles(api_of(stub), [case("a", reference="Mara")], template)
        assert stub.asked[0]["messages"][0]["content"] == "Who has it? a Mara"
        with pytest.raises(UserError, match=r"line 3: has no known answer"):
            judge_singles(api_of(stub), [case("a", where="x.jsonl, line 3")], template)


def test_several_turns_are_told_with_who_speaks():
    said = [("system", "Be kind."), ("user", "A?"), ("assistant", "B."), ("user", "C?")]
    messages = tuple({"role": role, "content": text} for role, text in said)
    assert told(messages) == "System: Be kind.\n\nUser: A?\n\nAssistant: B.\n\nUser: C?"
