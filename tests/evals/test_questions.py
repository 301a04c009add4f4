"""Multiple-choice questions in the forms that people share, and out of tales."""

import json
from collections import Counter

import pytest

from folio.config import UserError
from folio.data import tales
from folio.data.record_files import Record
from folio.evals.questions import Question, question_of, read_questions, tales_questions

ARC = {
    "id": "Mercury_7",
    "question": "Which is a mammal?",
    "choices": {"text": ["hen", "cow", "carp"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
MAMMALS = "Question: Which is a mammal?\nAnswer:"
TWO = {"text": ["hen", "cow"], "label": ["1", "2"]}
SUM = {"question": "2 + 2?", "choices": ["3", "4"]}
TEA = {"activity_label": "Tea", "ctx": "[header] Boil [step] it."}
RAIN = {"context": "It rained.", "question": "Was it dry?", "choices": ["no", "yes"]}
KNOWN = {
    "arc": (ARC, Question(MAMMALS, ("hen", "cow", "carp"), 1)),
    "arc, numbers": (
        ARC | {"choices": TWO, "answerKey": "2"},
        Question(MAMMALS, ("hen", "cow"), 1),
    ),
    "openbookqa": (
        {"question_stem": "Ice is", "choices": ARC["choices"], "answerKey": "A"},
        Question("Question: Ice is\nAnswer:", ("hen", "cow", "carp"), 0),
    ),
    "hellaswag": (
        TEA | {"endings": ["Pour.", "Run."], "label": "1"},
        Question("Tea: Boil it.", ("Pour.", "Run."), 1),
    ),
    "piqa": (
        {"goal": "Cool it?", "sol1": "Ice.", "sol2": "Fire.", "label": 0},
        Question("Question: Cool it?\nAnswer:", ("Ice.", "Fire."), 0),
    ),
    "mmlu": (
        SUM | {"answer": 1, "subject": "sums"},
        Question("Question: 2 + 2?\nAnswer:", ("3", "4"), 1, "sums"),
    ),
    "letter": (
        SUM | {"answer": "B"},
        Question("Question: 2 + 2?\nAnswer:", ("3", "4"), 1),
    ),
    "own": (
        {"context": "The hen", "choices": ["sat", "sang"], "answer": 0, "task": "do"},
        Question("The hen", ("sat", "sang"), 0, "do"),
    ),
    "passage": (
        RAIN | {"answer": "0"},
        Question("It rained.\nQuestion: Was it dry?\nAnswer:", ("no", "yes"), 0),
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_forms(name):
    fields, wanted = KNOWN[name]
    assert question_of(Record("", fields)) == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answerKey": "D"}, r"'answerKey' holds 'D'; expected A B C$"),
        ({"answerKey": 3}, r"'answerKey' holds 3"),
        ({"answerKey": True}, r"'answerKey' holds True"),
        ({"answerKey": None}, r"'answerKey' holds None"),
        ({"choices": ["a"], "answerKey": 0}, "1 choices; give at least 2"),
        ({"choices": ["a", ""], "answerKey": 0}, r"'choices\[1\]' is empty"),
        ({"choices": ["a", 7], "answerKey": 0}, r"'choices\[1\]' holds int, not text"),
        ({"choices": ["a", "b"], "answerKey": -1}, "expected a letter, or from 0 to 1"),
        ({"choices": ["a", "b"], "answerKey": "C"}, "holds 'C'"),
        ({"choices": {"text": ["a", "b"]}}, "no lists 'text' and 'label'"),
        ({"choices": {"text": ["a", "b"], "label": ["A"]}}, "2 choices, but 1 labels"),
        ({"choices": "ab"}, "holds str, not a list"),
        ({"choices": None}, "no known form"),
        ({"question": ""}, "'question' is empty"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(changes, message):
    with pytest.raises(UserError, match=f"^q.jsonl, line 3.*{message}"):
        question_of(Record("q.jsonl, line 3", ARC | changes))


def test_no_answer_and_no_question():
    with pytest.raises(UserError, match="no field 'answer', 'answerKey' or 'label'"):
        question_of(Record("", {"question": "a", "choices": ["b", "c"]}))
    with pytest.raises(UserError, match=r"no known form.*'answer', 'choices'"):
        question_of(Record("", {"answer": 0, "choices": ["b", "c"]}))


def test_a_file_names_its_line(tmp_path):
    path = tmp_path / "q.jsonl"
    bad = ARC | {"answerKey": "Z"}
    path.write_text(json.dumps(ARC) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(UserError, match=r"q.jsonl, line 2: field 'answerKey'"):
        read_questions(path)
    path.write_text("")
    with pytest.raises(UserError, match="holds no records"):
        read_questions(path)


def test_a_space_stands_between_context_and_choice_exactly_once():
    def continuation(context, choice):
        return Question(context, (choice, "x"), 0).continuation(0)

    assert continuation("Answer:", "hen") == " hen"
    assert continuation("Answer: ", "hen") == "hen"
    assert continuation("Answer:\n", "hen") == "hen"
    assert continuation("Answer:", "\then") == "\then"
    assert continuation("", "hen") == "hen"


# ---- tales ---------------------------------------------------------------------------


def test_tales_give_one_right_answer_among_four_and_no_place_away():
    questions = tales_questions(seed=1, tasks=tales.TASKS, count=400)
    assert {q.task for q in questions} == set(tales.TASKS)
    for question in questions:
        assert len(set(question.choices)) == 4
        assert question.context.endswith("Answer:")
        assert question.continuation(0) == f" {question.choices[0]}."
    places = Counter(q.answer for q in questions)
    assert min(places.values()) > 70  # of 100 expected, 3.5 standard deviations


def test_the_gold_answer_is_the_prompts():
    asked = {}
    for index in range(60):
        item = tales.instruction(1, "validation", index, tales.CORE)
        asked[item.question] = asked.get(item.question, set()) | {item.answer}
    questions = tales_questions(seed=1, count=20)
    for question in questions:
        words = question.context.split("Question: ")[1].removesuffix(" Answer:")
        assert question.choices[question.answer] in asked[words]


def test_tales_are_the_same_every_time_and_other_for_another_seed():
    assert tales_questions(count=5) == tales_questions(count=5)
    assert tales_questions(count=5) == tales_questions(count=9)[:5]
    assert tales_questions(count=5) != tales_questions(seed=1, count=5)
