"""`folio eval RUN harness`, with a stub in the place of lm-evaluation-harness.

What the real one finds is in tests/evals/test_harness.py.
"""

import json
import sys
import types

import pytest

from folio.config import UserError
from folio.model.store import save_model
from folio.stages import harness
from folio.stages.harness import evaluate_harness, harness_table
from folio.text.byte import ByteTokenizer
from helpers import tiny_model

TOKENIZER = ByteTokenizer()
FOUND = {
    "tea": {"alias": "tea", "acc,none": 0.25, "acc_stderr,none": 0.0625},
    "sums": {"exact_match,strict": 0.5, "exact_match_stderr,strict": "N/A"},
}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    save_model(tiny_model(vocab_size=TOKENIZER.vocab_size), folder / "model")
    TOKENIZER.save(folder / "model")
    return folder


@pytest.fixture
def stub(monkeypatch):
    """A harness with two tasks; what it was asked is the result."""
    asked = {}

    class TaskManager:
        all_tasks = ("tea", "sums")

        def load(self, task_list):
            raise ValueError("no\nsuch file")

    def simple_evaluate(model, **options):
        asked.update(options, model=model)
        if "broken.yaml" in options["tasks"][-1]:
            options["task_manager"].load(options["tasks"])
        return {"results": FOUND, "versions": {"tea": 1.0}}

    package, tasks = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.tasks")
    package.simple_evaluate, tasks.TaskManager = simple_evaluate, TaskManager
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", tasks)
    monkeypatch.setattr(harness, "as_harness_model", lambda run: run)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9")
    return asked


def test_what_is_found_is_printed_returned_and_kept(run, stub):
    said = []
    options = {"shots": 2, "count": 7, "seed": 3, "device": "cpu", "say": said.append}
    found = evaluate_harness(run, ["tea", "sums"], **options)
    assert found == {
        "tea": {"acc": 0.25, "acc_stderr": 0.0625},
        "sums": {"exact_match,strict": 0.5},
    }
    assert (stub["tasks"], stub["limit"], stub["num_fewshot"]) == (
        ["tea", "sums"],
        7,
        2,
    )
    assert stub["fewshot_random_seed"] == 3
    assert said[0] == harness_table(found)
    kept = json.loads((run / "harness.json").read_text())
    assert (kept["lm_eval"], kept["tasks"], kept["versions"]) == (
        "9.9",
        found,
        {"tea": 1},
    )


def test_the_table_has_errors_where_they_are_known():
    found = {"tea": {"acc": 0.25, "acc_stderr": 0.0625}, "sums": {"em,strict": 0.5}}
    rows = [line.split() for line in harness_table(found).splitlines()[1:]]
    assert rows == [
        ["tea", "acc", "0.2500", "±", "0.0625"],
        ["sums", "em,strict", "0.5000"],
    ]


def test_what_cannot_be_asked(run, stub, tmp_path):
    with pytest.raises(UserError, match=r"'tae'.*did you mean 'tea'"):
        evaluate_harness(run, ["tae"], device="cpu")
    with pytest.raises(UserError, match="name some of the harness'"):
        evaluate_harness(run, [], device="cpu")
    with pytest.raises(UserError, match="count = 0"):
        evaluate_harness(run, ["tea"], count=0, device="cpu")
    (tmp_path / "broken.yaml").write_text("task: [")
    with pytest.raises(UserError, match=r"broken.yaml: ValueError: no such file$"):
        evaluate_harness(run, [str(tmp_path / "broken.yaml")], device="cpu")
