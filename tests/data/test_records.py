"""Conversations, preferences and prompts from files; what is wrong is named."""

import json
from collections import Counter

import pytest

from folio.config import UserError
from folio.data.parts import divide, prompt_key
from folio.data.record_files import Record
from folio.data.records import (
    Conversation,
    Pair,
    Prompt,
    conversation_of,
    pair_of,
    prompt_of,
    read_conversations,
    read_pairs,
    read_prompts,
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


TALK = [user("Add 1 and 2.\n\nquickly"), assistant("3")]
ALPACA = {"instruction": "Add 1 and 2.", "input": "quickly", "output": "3"}
SHARED = {
    "conversations": [
        {"from": "human", "value": TALK[0]["content"]},
        {"from": "gpt", "value": "3"},
    ]
}
MESSAGES = {"messages": [{**TALK[0], "name": "Ann"}, TALK[1]]}
ASKED = {"question": TALK[0]["content"], "answer": "3"}
FORMS = [ALPACA, SHARED, MESSAGES, ASKED]


def write(path, records):
    """The records in the form that the file's name asks for."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(record) + "\n\n" for record in records)
        path.write_text(text, encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(records), encoding="utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_each_form_in_each_file_is_the_same_conversation(tmp_path, form, name):
    talks = read_conversations(write(tmp_path / name, [form, form]))
    assert [list(talk.messages) for talk in talks] == [TALK, TALK]
    place = {"a.jsonl": "line 3", "a.json": "record 2", "a.parquet": "row 2"}[name]
    assert talks[1].where == f"{tmp_path / name}, {place}"


def test_forms_may_be_mixed_in_a_file_and_an_input_may_be_missing(tmp_path):
    bare = {"instruction": "Add.", "input": "", "output": "", "system": "Be kind."}
    talks = read_conversations(write(tmp_path / "a.jsonl", [*FORMS, bare]))
    assert [list(talk.messages) for talk in talks[:4]] == [TALK] * 4
    assert list(talks[4].messages) == [
        {"role": "system", "content": "Be kind."},
        user("Add."),
        assistant(""),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instruction": "a"}, "no field 'output'"),
        ({"instruction": "a", "output": None}, "'output' holds null, not text"),
        ({"instruction": "a", "output": 3}, "'output' holds int, not text"),
        ({"instruction": " ", "output": "b"}, "'instruction' is empty"),
        ({"instruction": "a", "input": [], "output": "b"}, "'input' holds list"),
        ({"instruction": "a", "output": "\ud800"}, "'output' has half of a surrogate"),
        ({"text": "a"}, "no known form; .* the record's fields: 'text'"),
        ({"messages": "hello"}, "'messages' holds str, not a list"),
        ({"messages": []}, "messages: empty"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]'"),
        ({"messages": [assistant("b")]}, "starts with the user"),
        ({"messages": [user("a"), assistant(None)]}, r"messages\[1\].content"),
        ({"messages": [user("a"), {"role": "bot", "content": ""}]}, "'bot'"),
        ({"messages": [user("a")]}, "the assistant says nothing"),
        ({"messages": [user("\udfff"), assistant("")]}, "surrogate"),
        ({"conversations": [{"from": "gpt", "value": "b"}]}, "starts with the user"),
        ({"conversations": [{"from": "humam", "value": ""}]}, "mean 'human'"),
        ({"conversations": [{"role": "user"}]}, r"conversations\[0\]'.*'from'"),
    ],
)
def test_a_conversation_that_cannot_be_is_refused_with_its_place(fields, words):
    with pytest.raises(UserError, match=words) as error:
        conversation_of(Record("a.jsonl, line 7", fields))
    assert str(error.value).startswith("a.jsonl, line 7: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"instruction": "a"\n', "line 1: not valid JSON"),
        ("a.jsonl", "\n[1]\n", "line 2: expected an object with fields, not list"),
        ("a.json", '{"a": 1}', "expected a list of records, not dict"),
        ("a.json", "[3]", "record 1: expected an object"),
        ("a.json", "[]", "holds no records"),
        ("a.jsonl", "\n", "holds no records"),
        ("a.csv", "a,b", "known endings"),
        ("a.parquet", "PAR?", "not readable as Parquet"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        read_conversations(path)


def test_a_line_longer_than_a_piece_and_a_missing_last_break(tmp_path):
    long = {"instruction": "a", "output": "é" * 1_500_000}
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps(long, ensure_ascii=False) + "\r\n" + json.dumps(ALPACA), "utf-8"
    )
    talks = read_conversations(path)
    assert talks[0].messages[1]["content"] == long["output"]
    assert list(talks[1].messages) == TALK


# ------------------------------------------------------------------- preferences

BOTH = {"chosen": "yes", "rejected": "no"}


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Is it?", **BOTH},
        {"instruction": "Is it?", "input": "", "output": "yes", **BOTH},
        {"prompt": [user("Is it?")], **BOTH},
        {
            "prompt": "Is it?",
            "chosen": [assistant("yes")],
            "rejected": [assistant("no")],
        },
        {
            "chosen": [user("Is it?"), assistant("yes")],
            "rejected": [user("Is it?"), assistant("no")],
        },
        {
            "prompt": "Is it?",
            "chosen": [user("Is it?"), assistant("yes")],
            "rejected": [user("Is it?"), assistant("no")],
        },
    ],
)
def test_each_form_of_a_preference_is_the_same_pair(fields):
    assert pair_of(Record("x", fields)) == Pair(
        (user("Is it?"),), "yes", "no", where="x"
    )


def test_margin_and_category_are_kept():
    pair = pair_of(Record("x", {"prompt": "a", **BOTH, "margin": 2, "category": "s"}))
    assert (pair.margin, pair.category) == (2.0, "s")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "a", "chosen": "b"}, "no field 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "'rejected' holds null"),
        ({"chosen": "b", "rejected": "c"}, "no known form"),
        ({"prompt": "", **BOTH}, "'prompt' is empty"),
        ({"prompt": "a", **BOTH, "margin": "2"}, "'margin' holds '2'"),
        ({"prompt": "a", **BOTH, "margin": -1}, "'margin' holds -1"),
        ({"prompt": "a", **BOTH, "category": 3}, "'category' holds int"),
        ({"prompt": "a", "chosen": [user("b")], "rejected": "c"}, "end with the ass"),
        (
            {
                "chosen": [user("a"), assistant("b")],
                "rejected": [user("c"), assistant("b")],
            },
            "different prompts",
        ),
    ],
)
def test_a_preference_that_cannot_be_is_refused(fields, words):
    with pytest.raises(UserError, match=f"^x: .*{words}"):
        pair_of(Record("x", fields))


def test_equal_pairs_are_counted_and_left_out(tmp_path):
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    said = []
    path = write(tmp_path / "a.json", [same, {"prompt": "a", **BOTH}, same])
    assert [pair.chosen for pair in read_pairs(path, said.append)] == ["yes"]
    assert said == [f"{path}: 2 of 3 pairs left out: chosen and rejected are the same"]
    with pytest.raises(UserError, match="the same in every pair"):
        read_pairs(write(tmp_path / "b.json", [same]), said.append)
    read_pairs(write(tmp_path / "c.json", [{"prompt": "a", **BOTH}]), said.append)
    assert len(said) == 2  # nothing left out, nothing said


# ----------------------------------------------------------------------- prompts


def test_the_answer_of_a_solution_is_what_follows_the_last_mark(tmp_path):
    solution = "4 * 18 = <<4*18=72>>72\n#### 1,072"
    records = [
        {"question": "How many?", "answer": solution},
        {"prompt": "Say hi", "answer": "hi", "task": "greet"},
    ]
    one, two = read_prompts(write(tmp_path / "a.jsonl", records))
    assert (one.answer, one.response, one.task) == ("1,072", solution, "all")
    assert (two.answer, two.response, two.task) == ("hi", "hi", "greet")
    assert one.text == "How many?"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"question": "a", "answer": "72"}, "does not end with '#### number'"),
        ({"question": "a", "answer": "so ####  "}, "does not end with"),
        ({"question": "a"}, "no field 'answer'"),
        ({"answer": "a"}, "no known form"),
        ({"prompt": "a", "answer": ""}, "'answer' is empty"),
        ({"prompt": "a", "answer": "b", "task": 1}, "'task' holds int"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(fields, words):
    with pytest.raises(UserError, match=f"^x: .*{words}"):
        prompt_of(Record("x", fields))


@pytest.mark.parametrize(
    ("read", "good", "bad", "message"),
    [
        (
            read_conversations,
            MESSAGES,
            {"instruction": "Add."},
            "no field 'output'; the record's fields: 'instruction'",
        ),
        (
            read_conversations,
            MESSAGES,
            {"messages": [assistant("Hello."), user("Hi.")]},
            "messages[0].role = 'assistant': a conversation starts with the user",
        ),
        (
            read_pairs,
            {"prompt": "a", **BOTH},
            {"prompt": "a", "chosen": "b"},
            "no field 'rejected'; the record's fields: 'prompt', 'chosen'",
        ),
        (
            read_prompts,
            {"prompt": "a", "answer": "b"},
            {"prompt": "a", "answers": "b"},
            "no field 'answer'; the record's fields: 'prompt', 'answers'",
        ),
    ],
)
def test_one_line_names_the_file_the_line_and_the_field(
    tmp_path, read, good, bad, message
):
    path = write(tmp_path / "a.jsonl", [good, bad, good])
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}, line 3: {message}")
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------- parts


def test_parts_have_their_shares_and_share_no_prompt():
    talks = [
        Conversation((user(f"Say {i % 1500}"), assistant(str(i)))) for i in range(3000)
    ]
    parts = divide(talks)
    assert sum(map(len, parts.values())) == 3000
    for name, share in (("train", 0.85), ("test", 0.1), ("validation", 0.05)):
        assert len(parts[name]) / 3000 == pytest.approx(share, abs=0.03)
    asked = [{prompt_key(talk) for talk in part} for part in parts.values()]
    assert sum(map(len, asked)) == len(set.union(*asked)) == 1500
    fewer = divide(talks[:500])["train"]
    assert fewer == [one for one in talks[:500] if one in parts["train"]]


def test_a_prompt_has_one_part_whatever_is_made_of_it():
    """So a pair can't be trained on whose prompt is held out for rollouts."""
    prompts = [(user(f"Say {i}"),) for i in range(300)]
    records = [
        *(Conversation((*prompt, assistant("x"))) for prompt in prompts),
        *(Pair(prompt, "y", "z") for prompt in prompts),
        *(Prompt(prompt, "w", "w") for prompt in prompts),
    ]
    for part in divide(records, {"train": 0.6, "test": 0.4}).values():
        asked = Counter(map(prompt_key, part))
        assert set(asked.values()) == {3}
    backwards = divide(records[::-1])
    for name, part in divide(records).items():
        assert part == backwards[name][::-1]


def test_an_empty_part_is_refused_by_name():
    with pytest.raises(UserError, match="part is empty: 1 records"):
        divide([Conversation((user("a"), assistant("b")))])
    talks = [Conversation((user(str(i)), assistant("b"))) for i in range(50)]
    with pytest.raises(UserError, match=r"^the validation part is empty") as error:
        divide(talks, {"train": 0.8, "validation": 0.0, "test": 0.2})
    assert "\n" not in str(error.value)
