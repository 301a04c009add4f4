"""What was liked better, in files that the other stages read as they are."""

import json

import pytest

from folio.config import UserError
from folio.data.records import read_conversations, read_pairs
from folio.studio.preferences import Preferences, export_conversation
from tuned import make_parent, rows_of, run_of

ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]


def test_a_pair_is_read_by_the_reader_of_dpo(tmp_path):
    path = tmp_path / "new" / "preferences.jsonl"
    assert Preferences(path).count() == 0
    assert Preferences(path).keep(ASKED, "Mara.", "Tom.\n\u2028“x”") == 1
    [pair] = read_pairs(path)
    assert pair.prompt == tuple(ASKED)
    assert (pair.chosen, pair.rejected) == ("Mara.", "Tom.\n\u2028“x”")


def test_a_changed_mind_turns_the_pair_around(tmp_path):
    kept = Preferences(tmp_path / "p.jsonl")
    kept.keep(ASKED, "a", "b")
    kept.keep(ASKED[1:], "a", "b")  # another prompt
    assert kept.keep(ASKED, "a", "b") == 2  # said twice is said once
    assert kept.keep(ASKED, "b", "a") == 2
    found = {(len(p.prompt), p.chosen, p.rejected) for p in read_pairs(kept.path)}
    assert found == {(2, "b", "a"), (1, "a", "b")}


def test_what_nothing_is_learned_from_is_not_written(tmp_path):
    kept = Preferences(tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="same text"):
        kept.keep(ASKED, "a", "a")
    with pytest.raises(UserError, match="assistant"):
        kept.keep([{"role": "assistant", "content": "x"}], "a", "b")
    assert not kept.path.exists()


def test_lines_of_others_stay_as_they_are(tmp_path):
    path = tmp_path / "p.jsonl"
    theirs = {"prompt": "Q?", "chosen": "x", "rejected": "y", "margin": 2.0}
    path.write_text(json.dumps(theirs) + "\n")
    assert Preferences(path).keep(ASKED, "a", "b") == 2
    assert json.loads(path.read_text().splitlines()[0]) == theirs
    path.write_text("not ours\n")
    with pytest.raises(UserError, match="line 1"):
        Preferences(path).keep(ASKED, "a", "b")
    assert path.read_text() == "not ours\n"


def test_a_conversation_is_read_by_the_reader_of_sft(tmp_path):
    path = tmp_path / "conversations.jsonl"
    talk = [*ASKED, {"role": "assistant", "content": "Mara."}]
    assert export_conversation(path, talk) == 1
    assert export_conversation(path, talk) == 1
    assert export_conversation(path, talk[1:]) == 2
    assert [c.messages for c in read_conversations(path)] == [
        tuple(talk),
        tuple(talk[1:]),
    ]
    with pytest.raises(UserError, match="nothing to learn"):
        export_conversation(path, ASKED)


@pytest.mark.slow
def test_dpo_learns_from_what_was_kept(tmp_path):
    kept = Preferences(tmp_path / "preferences.jsonl")
    for number in range(16):
        asked = [{"role": "user", "content": f"Sort {number} 3 9, please."}]
        kept.keep(asked, f"{number} 3 9", "no")
    parent = make_parent(tmp_path).folder
    data = {"path": str(kept.path), "split": [0.5, 0.5, 0.0]}
    steps = {"steps": 2, "eval_every": 2, "save_every": 0}
    run = run_of(
        "dpo", parent, tmp_path / "run", embedded=False, data=data, train=steps
    )
    assert [row["step"] for row in rows_of(run) if "lr" in row] == [1, 2]
    assert (run.model / "model.safetensors").is_file()
