"""Judged solutions become preferences."""

import json

import pytest

from folio.config import UserError
from folio.data.records import read_pairs


def record(*judged, truth="the truth"):
    fields = {"question": "How many?", "ground_truth": truth}
    for number, (text, right) in enumerate(judged):
        fields[f"model_{number}"] = {"solution": text, "is_correct": right}
    return fields


def written(tmp_path, *records):
    path = tmp_path / "solutions.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def test_each_wrong_solution_is_below_a_right_one(tmp_path):
    one = record(("a", True), ("b", False), ("c", True), ("d", False), ("e", False))
    other = record(("f", False), ("f", False))  # none was right, and two agreed
    third = record(("g", True))
    pairs = read_pairs(written(tmp_path, one, other, third))
    assert [(p.chosen, p.rejected) for p in pairs] == [
        *(("a", "b"), ("c", "d"), ("a", "e")),
        ("the truth", "f"),
    ]
    assert {p.category for p in pairs} == {"solution"}
    assert all("line" in p.where for p in pairs)


def test_a_judgement_that_is_none_is_named(tmp_path):
    path = written(tmp_path, record(("a", "yes")))
    with pytest.raises(UserError, match=r"line 1: field 'model_0': 'solution' must"):
        read_pairs(path)


def test_nothing_to_prefer_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no preferences"):
        read_pairs(written(tmp_path, record(("a", True))))
