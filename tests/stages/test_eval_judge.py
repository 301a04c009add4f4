"""`folio eval RUN judge`: two runs, a stub for a judge, and what is kept."""

import json

import pytest

from engines import model_of
from folio.config import UserError
from folio.model.store import save_model
from folio.stages.judge import evaluate_judge
from folio.text.byte import ByteTokenizer
from judges import stub_server

TOKENIZER = ByteTokenizer()
SMALL = {"max_new_tokens": 4, "device": "cpu", "say": lambda text: None}


@pytest.fixture
def runs(tmp_path):
    """Two runs that have learned nothing, and not the same."""
    for seed, name in enumerate(("one", "other")):
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        shape = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 512}
        save_model(model_of(seed, **shape), folder)
        TOKENIZER.save(folder)
    return tmp_path / "one", tmp_path / "other"


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    records = [{"prompt": "Who?"}, {"prompt": "What?", "answer": "A hen."}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_two_runs_are_compared_and_all_is_kept_but_the_key(runs, prompts):
    one, other = runs
    with stub_server(lambda prompt: "Both.\n[[tie]]") as stub:
        found = evaluate_judge(
            one, prompts, url=stub.url, model="m", key="s3cret", against=other, **SMALL
        )
    assert found.outcomes["tie"] == 2
    text = (one / "judge.json").read_text()
    assert "s3cret" not in text
    kept = json.loads(text)
    assert kept["options"]["model"] == "m"
    assert kept["judged"][0]["texts"] == ["Both.\n[[tie]]"] * 2
    assert kept["judged"][0]["case"]["messages"][0]["content"] == "Who?"


def test_one_run_is_graded_on_tales(runs, monkeypatch):
    with stub_server(lambda prompt: "[[3]]") as stub:
        monkeypatch.setenv("FOLIO_JUDGE_URL", stub.url)
        monkeypatch.setenv("FOLIO_JUDGE_KEY", "s3cret")
        found = evaluate_judge(runs[0], model="m", tasks=["date"], count=3, **SMALL)
    assert (found.grades.mean, found.grades.count) == (3.0, 3)
    assert stub.headers[0]["Authorization"] == "Bearer s3cret"


def test_a_template_of_the_users(runs, prompts, tmp_path):
    template = tmp_path / "template.txt"
    template.write_text("Grade {answer} to {question} as {reference}")
    options = {"model": "m", "template": template, **SMALL}
    with stub_server(lambda prompt: "[[3]]") as stub:
        with pytest.raises(UserError, match="line 1: has no known answer"):
            evaluate_judge(runs[0], prompts, url=stub.url, **options)
        assert stub.asked == []
        missing = options | {"template": tmp_path / "none.txt"}
        with pytest.raises(UserError, match=r"template = .*none.txt: can't read"):
            evaluate_judge(runs[0], prompts, url=stub.url, **missing)


def test_nobody_is_asked_unless_the_user_says_whom(runs, monkeypatch):
    monkeypatch.delenv("FOLIO_JUDGE_URL", raising=False)
    with pytest.raises(UserError, match=r"no judge: .*--url \(or in FOLIO_JUDGE_URL\)"):
        evaluate_judge(runs[0], model="m", **SMALL)
