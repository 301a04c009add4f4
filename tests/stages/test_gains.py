"""The table at the end of the demo: one exam for all, noise beside every number."""

import json

import pytest

from folio.stages.gains import judge_runs
from tuned import make_parent, run_of


@pytest.fixture(scope="module")
def gains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gains")
    parent = make_parent(folder).folder
    tuned = run_of("sft", parent, folder / "sft").folder
    runs = {"pretrain": parent, "sft": tuned}
    return judge_runs(runs, prompts=4, samples=1, tasks=("sort",), ladder=("first",))


def test_every_run_takes_every_exam(gains):
    assert set(gains.exams) == {"core", "unseen", "ladder"}
    for exam in gains.exams.values():
        assert list(exam) == ["pretrain", "sft"]
    assert list(gains.by_task("sft")) == ["sort"]
    assert list(gains.by_task("sft", "ladder")) == ["first"]
    assert 0 <= gains.mean("sft", "gold") <= 1.5


def test_the_table_has_a_line_for_each_run_in_each_part(gains):
    text = gains.table()
    assert text.count("\nsft") == text.count("\npretrain") == 4
    assert "±" in text
    assert "gold, greedy" in text


def test_it_can_be_written_down(gains):
    again = json.loads(json.dumps(gains.to_dict()))
    found = again["core"]["sft"]["sampled"]["all"]["gold"]
    assert found["mean"] == gains.mean("sft", "gold")
    assert found["count"] == 4
