"""`folio eval RUN choices`, on a run that has learned nothing."""

import json

import pytest

from folio.config import UserError
from folio.model.store import save_model
from folio.stages.choices import evaluate_choices
from folio.text.byte import ByteTokenizer
from helpers import tiny_model

TOKENIZER = ByteTokenizer()


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    shape = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 512}
    save_model(tiny_model(**shape), folder / "model")
    TOKENIZER.save(folder / "model")
    return folder


def test_tales_are_printed_returned_and_kept(run):
    said = []
    found = evaluate_choices(run, count=6, tasks=["day"], device="cpu", say=said.append)
    assert list(found) == ["all", "day"]
    assert found["day"]["sum"].count == 6
    assert "unconditional" in said[0]
    kept = json.loads((run / "choices.json").read_text())
    options = {"data": None, "tasks": ["day"], "chat": False, "count": 6, "seed": 0}
    assert kept["options"] == options
    assert kept["tasks"]["day"]["sum"]["mean"] == found["day"]["sum"].mean


def test_a_file_is_asked_as_far_as_told(run, tmp_path):
    path = tmp_path / "q.jsonl"
    asked = {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
    path.write_text("".join(json.dumps(asked) + "\n" for _ in range(5)))
    said = []
    found = evaluate_choices(run, path, count=3, device="cpu", say=said.append)
    assert found["all"]["sum"].count == 3
    assert said[0] == f"{path}: the first 3 of 5 records"


def test_a_chat_is_asked_otherwise(run):
    options = {"count": 6, "device": "cpu", "say": lambda text: None}
    plain, chat = (
        evaluate_choices(run, chat=chat, **options) for chat in (False, True)
    )
    assert chat["all"]["chance"] == plain["all"]["chance"]
    assert json.loads((run / "choices.json").read_text())["options"]["chat"] is True


def test_what_cannot_be_asked(run, tmp_path):
    with pytest.raises(UserError, match="give them or a file, not both"):
        evaluate_choices(run, tmp_path / "q.jsonl", tasks=["day"])
    with pytest.raises(UserError, match="count = 0"):
        evaluate_choices(run, count=0)
    with pytest.raises(UserError, match=r"'dya'.*day"):
        evaluate_choices(run, tasks=["dya"])
