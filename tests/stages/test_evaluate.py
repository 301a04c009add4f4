"""`folio eval RUN answers | preference | sanity`, on tiny runs and known scores."""

import json

import pytest
import torch

from folio.config import UserError
from folio.data.embedded import tales_pairs, tales_prompts
from folio.data.record_files import Record
from folio.data.records import Conversation
from folio.data.verifiers import exact_answer, number_answer
from folio.evals.answers import Answer
from folio.model.scorer import Scorer
from folio.model.store import save_model
from folio.stages import evaluate
from folio.stages.asked import (
    Exam,
    file_exam,
    held_out_pairs,
    known_prompt,
    last_exchange,
    tales_exam,
    training_pairs,
)
from folio.stages.evaluate import (
    evaluate_answers,
    evaluate_preference,
    evaluate_sanity,
    known_answers,
    styled_answers,
)
from folio.text.byte import ByteTokenizer
from helpers import tiny_model

TOKENIZER = ByteTokenizer()
QUIET = {"device": "cpu", "say": lambda text: None}


def silent(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def run(tmp_path):
    """A run that has learned nothing."""
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    shape = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 512}
    save_model(tiny_model(**shape), folder / "model")
    TOKENIZER.save(folder / "model")
    return folder


@pytest.fixture
def scorer(monkeypatch):
    """A reward model in place of one that is loaded."""
    shape = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 512}
    model = Scorer(tiny_model(**shape)).eval()
    torch.nn.init.normal_(model.value_head.weight)
    monkeypatch.setattr(
        "folio.stages.evaluate.load_scorer",
        lambda folder, device: (model, TOKENIZER),
    )
    return model


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def said(*contents):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]


# ---- what is asked -------------------------------------------------------------------


def test_records_of_each_form_become_prompts():
    def of(**fields):
        return known_prompt(Record("f, line 1", fields))

    solved = of(question="6 * 7?", answer="So it is\n#### 42")
    assert (solved.answer, solved.response) == ("42", "So it is\n#### 42")
    asked = of(question="Who?", answer="A hen.")
    assert (asked.text, asked.answer) == ("Who?", "A hen.")
    plain = of(prompt="Who?", answer="me", task="who")
    assert (plain.task, plain.answer) == ("who", "me")
    talk = of(messages=said("a", "b", "c", "d", "e"))
    assert [m["content"] for m in talk.messages] == ["a", "b", "c"]
    assert talk.response == "d"
    alpaca = of(instruction="Add.", input="1 2", output="3")
    assert (alpaca.text, alpaca.response) == ("Add.\n\n1 2", "3")


def test_an_answer_to_nobody_is_refused():
    with pytest.raises(UserError, match=r"f, line 3: .* answers nobody"):
        last_exchange(
            Conversation(({"role": "assistant", "content": "Hello."},), "f, line 3")
        )


def test_who_is_right_depends_on_the_file(tmp_path):
    marked = write(tmp_path / "m.jsonl", {"question": "6 * 7?", "answer": "#### 42"})
    exam = file_exam(marked, 5)
    assert exam.right is number_answer
    assert exam.right(exam.prompts[0], "42.0? yes\n#### 42.0", True) == 1
    free = write(tmp_path / "f.jsonl", {"prompt": "Who?", "answer": "me"})
    assert file_exam(free, 5).right is exact_answer


def test_the_first_prompts_of_a_long_file_and_that_is_told(tmp_path):
    path = write(
        tmp_path / "p.jsonl", *({"prompt": str(i), "answer": "a"} for i in range(5))
    )
    told = []
    exam = file_exam(path, 3, told.append)
    assert [prompt.text for prompt in exam.prompts] == ["0", "1", "2"]
    assert told == [f"{path}: the first 3 of 5 records"]
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no records"):
        file_exam(tmp_path / "empty.jsonl", 3)


def test_the_world_is_asked_in_its_validation_part():
    source = tales_prompts(3, "validation", ("sort",), held_out=True)
    found = tales_exam(("sort",), 4, 3, held_out=True).prompts
    assert [p.text for p in found] == [source.make(i).text for i in range(4)]
    assert [p.text for p in found] != [
        p.text for p in tales_exam(("sort",), 4, 3).prompts
    ]


# ---- answers -------------------------------------------------------------------------


def test_answers_of_the_world_in_seen_and_unseen_wordings(run):
    printed = []
    options = {"count": 6, "samples": 2, "max_new_tokens": 4, "device": "cpu"}
    found = evaluate_answers(run, tasks=("sort", "date"), **options, say=printed.append)
    assert list(found) == ["seen wordings", "unseen wordings"]
    text = "\n".join(printed)
    for words in ("sort (", "date (", "all (6)", "greedy", "sampled", "gold", "pass@2"):
        assert words in text
    kept = json.loads((run / "answers.json").read_text())
    assert kept["options"]["samples"] == 2
    assert kept["options"]["tasks"] == ["sort", "date"]
    part = kept["parts"]["unseen wordings"]
    measured = found["unseen wordings"]["sampled"]["all"]["rouge_l"]
    assert part["results"]["sampled"]["all"]["rouge_l"]["mean"] == measured.mean
    assert part["results"]["sampled"]["all"]["rouge_l"]["count"] == 6
    assert part["prompts"] != kept["parts"]["seen wordings"]["prompts"]
    again = evaluate_answers(run, tasks=("sort", "date"), **options, say=silent)
    assert again == found


def test_what_the_model_says_is_what_is_measured(run, tmp_path, monkeypatch):
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "one", "answer": "1", "task": "known"},
        {"prompt": "two", "answer": "2", "task": "unknown"},
    )

    def knows_one(*about, **more):
        return lambda prompts, sampling, n: [
            [Answer("1", True)] * n if p.text == "one" else [Answer("2", False)] * n
            for p in prompts
        ]

    monkeypatch.setattr(evaluate, "respond_with", knows_one)
    printed = []
    found = evaluate_answers(run, path, device="cpu", say=printed.append)
    assert list(found) == ["p.jsonl"]
    greedy = found["p.jsonl"]["greedy"]
    assert greedy["all"]["exact"].mean == 0.5
    assert greedy["known"]["exact"].mean == 1
    assert greedy["unknown"]["exact"].mean == 0
    assert greedy["unknown"]["numeric"].mean == 1
    rows = [line.split() for line in "\n".join(printed).splitlines()]
    assert ["all", "(2)", "greedy", "sampled"] in rows
    half = ["0.500", "[0.09,", "0.91]"]
    assert ["exact", *half, *half] in rows
    assert ["pass@4", "-", *half] in rows


def test_a_single_prompt_has_no_interval_of_its_reward_and_json_says_null(run):
    evaluate_answers(run, tasks=("sort",), count=1, max_new_tokens=2, **QUIET)
    text = (run / "answers.json").read_text()
    assert "Infinity" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "x.jsonl", "tasks": ("sort",)}, "tasks = sort: .* not both"),
        ({"count": 0}, "count = 0"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"temperature": -1.0}, "temperature = -1"),
        ({"tasks": ("srot",)}, "did you mean 'sort'"),
        ({"data": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_bad_requests_are_one_line(run, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        evaluate_answers(run, **changes, **QUIET)
    assert "\n" not in str(caught.value)
    assert not (run / "answers.json").exists()


# ---- reward models -------------------------------------------------------------------


def test_preferences_of_the_world(run, scorer):
    printed = []
    sanity = evaluate_preference(run, count=40, device="cpu", say=printed.append)
    assert set(sanity.pairs.accuracy) == {"all", "style", "content", "both"}
    assert sanity.pairs.accuracy["all"].count == 40
    assert "length fitted" in sanity.pairs.baselines
    assert printed[0] == sanity.table()
    kept = json.loads((run / "preference.json").read_text())
    assert kept["pairs"]["accuracy"]["all"]["mean"] == sanity.pairs.accuracy["all"].mean
    assert kept["options"]["count"] == 40


def test_pairs_are_held_out_and_baselines_learn_from_others():
    held_out = held_out_pairs(None, ("sort",), 20, 5, silent)
    source = tales_pairs(5, "validation", ("sort",))
    assert held_out == [source.make(i) for i in range(20)]
    known = training_pairs(None, None, ("sort",), 5, silent)
    assert not {p.prompt[0]["content"] for p in known} & {
        p.prompt[0]["content"] for p in held_out
    }


def test_preferences_of_a_file_with_and_without_training_pairs(run, scorer, tmp_path):
    made = [tales_pairs(0, "train").make(i) for i in range(12)]
    records = [
        {"prompt": list(p.prompt), "chosen": p.chosen, "rejected": p.rejected}
        for p in made
    ]
    path = write(tmp_path / "pairs.jsonl", *records)
    plain = evaluate_preference(run, path, **QUIET)
    assert plain.pairs.accuracy["all"].count == 12
    assert "length fitted" not in plain.pairs.baselines
    fitted = evaluate_preference(run, path, training=path, **QUIET)
    assert "length fitted" in fitted.pairs.baselines
    assert fitted.pairs.accuracy == plain.pairs.accuracy


def test_sanity_in_the_world_with_its_own_answers(run, scorer):
    sanity = evaluate_sanity(run, count=20, asked=5, **QUIET)
    assert sanity.answers.count == 5 * 8
    assert [row.n for row in sanity.answers.best_of] == [1, 2, 4, 8]
    assert sanity.answers.best_of[-1].best == 1.5
    assert sanity.degenerate["empty"].below.count == 5
    kept = json.loads((run / "sanity.json").read_text())
    assert kept["answers"]["count"] == 40
    assert kept["options"]["policy"] is None
    assert "Best of n" in (run / "sanity.html").read_text()


def test_sanity_with_a_policys_answers(run, scorer):
    sanity = evaluate_sanity(
        run, run, tasks=("sort",), count=4, asked=3, samples=40, max_new_tokens=99,
        **QUIET,
    )  # fmt: skip
    assert sanity.answers.count == 3 * 40
    assert 0 < sanity.answers.unfinished < 120


def test_sanity_of_a_files_pairs_knows_no_truth(run, scorer, tmp_path):
    path = write(
        tmp_path / "pairs.jsonl",
        {"prompt": "Who?", "chosen": "A hen.", "rejected": "Nobody."},
        {"prompt": "How many?", "chosen": "Twelve eggs.", "rejected": "12"},
    )
    sanity = evaluate_sanity(run, data=path, **QUIET)
    assert sanity.answers is None
    assert sanity.degenerate["of another"].below.count == 2
    with pytest.raises(UserError, match="embedded world only"):
        evaluate_sanity(run, run, path, **QUIET)


def test_answers_in_all_styles_have_the_worlds_own_truth():
    exam = tales_exam(("sort",), 2, 0)
    [first, _] = known_answers(exam, [styled_answers(p) for p in exam.prompts])
    assert [one.truth for one in first] == [1, 1, 1.5, 1, 0, 0, 0.5, 0]
    assert [one.right for one in first] == [True] * 4 + [False] * 4
    cut = known_answers(
        Exam(exam.prompts[:1], exam.right, exam.truth), [[Answer("7", False)]]
    )
    assert cut[0][0].truth == 0
    assert not cut[0][0].finished
