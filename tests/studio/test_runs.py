"""Which runs there are, and names that can do no harm."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.config import UserError
from folio.studio.runs import NAME, Runs, check_name
from folio.training.run import Run
from studio.made_runs import make_run

HOSTILE = (
    *("", ".", "..", "...", "../x", "a/b", "/etc/passwd", "a\0b", "a b", "~", "-" * 65),
    *(
        "%2e%2e",
        "..%2f",
        "a\\b",
        "C:x",
        "runs/../..",
        "a\n",
        "é",
        "$(id)",
        "{}",
        "\u202e",
    ),
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_could_lead_elsewhere_is_refused(name, runs):
    with pytest.raises(UserError):
        check_name(name)
    with pytest.raises(UserError):
        Runs([], runs).place(name)
    with pytest.raises(UserError):
        Runs([], runs).path(name)


@given(st.text(max_size=80))
def test_what_passes_stays_right_below_the_root(name):
    root = Path("/tmp/root")
    try:
        place = Runs([], root).place(name)
    except UserError:
        return
    assert NAME.fullmatch(name)
    assert place.parent == root
    assert os.path.normpath(place) == str(place)


def test_runs_are_found_below_the_root_two_folders_deep(tmp_path):
    make_run(tmp_path / "one")
    make_run(tmp_path / "demo" / "sft")
    make_run(tmp_path / "a" / "b" / "too-deep")
    (tmp_path / "empty").mkdir()
    assert list(Runs([], tmp_path).found()) == ["demo/sft", "one"]


def test_no_link_leads_out_of_the_root(tmp_path):
    make_run(tmp_path / "elsewhere" / "secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    (root / "up").symlink_to(tmp_path / "elsewhere")
    assert Runs([], root).found() == {}


def test_a_named_run_comes_first_wherever_it_is(tmp_path, runs):
    named = make_run(tmp_path / "chat")  # like one below the root
    found = Runs([named, runs / "base"], runs).found()
    assert list(found)[:2] == ["chat", "base"]
    assert found["chat"] == named
    assert found[f"{runs.name}/chat"] == runs / "chat"
    assert len(found) == 4


def test_reward_models_and_broken_folders_are_left_out(tmp_path):
    make_run(tmp_path / "judge")
    (Run(tmp_path / "judge").model / "config.json").write_text('{"scorer": {}}')
    make_run(tmp_path / "broken")
    (Run(tmp_path / "broken").model / "config.json").write_text("{")
    assert Runs([], tmp_path).found() == {}
    with pytest.raises(UserError, match="judge holds no run that can write"):
        Runs([tmp_path / "judge"], tmp_path)


def test_without_runs_it_is_said_how_to_get_one(tmp_path):
    with pytest.raises(UserError, match="no run yet: train one"):
        Runs([], tmp_path / "nowhere").path("x")


def test_an_unknown_run_is_named_with_the_nearest(runs):
    with pytest.raises(UserError, match=r"'bass'.*base"):
        Runs([], runs).path("bass")
    with pytest.raises(UserError, match="choose a run"):
        Runs([], runs).path(None)
