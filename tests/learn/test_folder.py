"""Nothing of a learner's work is lost; progress is a file."""

import json

import pytest

from folio.config import UserError
from folio.learn import commands
from folio.learn.exercises import find
from folio.learn.folder import PROGRESS, Folder
from folio.learn.source import stub
from folio.learn.verdict import Verdict
from learn.answers import right, write

RMS = find("rms_norm")


@pytest.fixture
def judged(monkeypatch):
    """Checks give the verdict that a test puts here, and start no process."""
    verdicts: dict[str, Verdict] = {}
    monkeypatch.setattr(
        commands,
        "check_file",
        lambda exercise, file, seconds: (verdicts.get(exercise.name, Verdict()), ""),
    )
    return verdicts


def test_start_writes_a_stub_and_never_again(tmp_path, capsys):
    commands.start(["rms_norm"], tmp_path / "mine")
    file = tmp_path / "mine" / "rms_norm.py"
    assert file.read_text() == stub(RMS)
    file.write_text("my work")
    commands.start(["rms_norm"], tmp_path / "mine")
    assert file.read_text() == "my work"
    assert "stays as it is" in capsys.readouterr().out


def test_start_goes_on_in_the_order_of_the_book(tmp_path):
    commands.start([], tmp_path)
    commands.start([], tmp_path)
    names = {file.stem for file in tmp_path.glob("*.py")}
    assert names == {"char_tokenizer", "stream_decode"}


def test_start_of_a_chapter(tmp_path):
    commands.start([], tmp_path, chapter=7)
    names = {file.stem for file in tmp_path.glob("*.py")}
    assert names == {"multiply_gradient", "matmul_gradient", "unbroadcast_gradient"}


def test_reset_keeps_every_answer(tmp_path, capsys):
    mine = Folder(tmp_path)
    for number in (1, 2):
        write(tmp_path, "rms_norm", f"answer {number}")
        mine.note(RMS, passed=True, hints=2)
        commands.reset("rms_norm", tmp_path)
        assert (tmp_path / f"rms_norm.{number}.bak").read_text() == f"answer {number}"
    assert (tmp_path / "rms_norm.1.bak").read_text() == "answer 1"
    assert (tmp_path / "rms_norm.py").read_text() == stub(RMS)
    assert not mine.has_passed(RMS)
    assert "what you had is in" in capsys.readouterr().out


def test_hints_come_one_after_another(tmp_path, capsys):
    for _ in range(4):
        commands.hint("rms_norm", tmp_path)
    shown = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in shown] == [f"hint {n} of 3" for n in (1, 2, 3, 3)]
    assert RMS.hints[1] in shown[1]


def test_check_remembers_what_passed(tmp_path, judged, capsys):
    write(tmp_path, "rms_norm", right("rms_norm"))
    write(tmp_path, "softmax", "")
    judged["softmax"] = Verdict(["chances sum to 1"], "order is kept", "no", 7)
    assert not commands.check([], tmp_path)
    assert Folder(tmp_path).has_passed(RMS)
    assert not Folder(tmp_path).has_passed(find("softmax"))
    shown = capsys.readouterr().out
    assert "    ✓ chances sum to 1\n    ✗ order is kept\n" in shown
    assert f"{tmp_path / 'softmax.py'}, line 7: no" in shown
    commands.list_exercises(tmp_path)
    shown = capsys.readouterr().out
    assert "✓ rms_norm" in shown
    assert "… softmax" in shown
    assert "1 of 35 passed" in shown.replace(f"of {len(shown)}", "")


def test_what_fails_again_has_not_passed(tmp_path, judged):
    write(tmp_path, "rms_norm", "")
    assert commands.check(["rms_norm"], tmp_path)
    judged["rms_norm"] = Verdict(message="no")
    assert not commands.check(["rms_norm"], tmp_path)
    assert not Folder(tmp_path).has_passed(RMS)


def test_a_damaged_progress_is_named_and_left(tmp_path, judged):
    write(tmp_path, "rms_norm", "")
    for damage in (
        '{"rms_norm": {"pas',
        '["list"]',
        '{"rms_norm": 3}',
        '{"a": {"hints": "x"}}',
    ):
        (tmp_path / PROGRESS).write_text(damage)
        with pytest.raises(UserError, match=r"progress\.json is damaged; move it away"):
            commands.check(["rms_norm"], tmp_path)
        assert (tmp_path / PROGRESS).read_text() == damage


def test_progress_is_written_whole_or_not(tmp_path, monkeypatch):
    mine = Folder(tmp_path)
    mine.note(RMS, passed=True)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="No space left"):
        mine.note(RMS, passed=False)
    monkeypatch.undo()
    assert json.loads((tmp_path / PROGRESS).read_text()) == {
        "rms_norm": {"passed": True}
    }
    assert [file.name for file in tmp_path.iterdir()] == [PROGRESS]


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda f: commands.check(["rmsnorm"], f), "did you mean 'rms_norm'?"),
        (lambda f: commands.check(["rms_norm"], f), "folio learn start rms_norm"),
        (lambda f: commands.hint("xyz", f), "'xyz'; `folio learn list` shows all"),
        (lambda f: commands.check([], f), "nothing to check"),
        (lambda f: commands.start([], f, week=9), "no exercises in week 9"),
        (
            lambda f: commands.list_exercises(f, chapter=99),
            "no exercises in chapter 99",
        ),
        (lambda f: commands.diff("rms_norm", f), "folio learn start rms_norm"),
        (lambda f: commands.start(["rms_norm"], f / "file"), "could not make"),
        (lambda f: commands.hint("rms_norm", f / "file"), "could not make"),
        (lambda f: commands.check(["rms_norm"], f / "file"), "Not a directory"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, do, said):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError) as error:
        do(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "rms_norm.py").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        commands.check(["rms_norm"], tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    """Some editors put one before the first letter, unseen."""
    text = "\ufeff" + right("softmax")
    write(tmp_path, "softmax", text)
    assert commands.check(["softmax"], tmp_path)


def test_what_is_printed_leaves_the_message_on_the_screen(
    tmp_path, monkeypatch, capsys
):
    write(tmp_path, "rms_norm", "")
    printed = "\n".join(f"line {number}" for number in range(1000))
    found = (Verdict(message="no"), printed)
    monkeypatch.setattr(commands, "check_file", lambda *_: found)
    commands.check(["rms_norm"], tmp_path)
    shown = capsys.readouterr().out.splitlines()
    assert "it printed, at the end:" in shown[2]
    assert shown[-1].strip() == "line 999"
    assert len(shown) == 23


def test_diff_shows_the_package_only_after_passing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    write(
        tmp_path, "rms_norm", "import torch\n\n\ndef rms_norm(x, gain, eps=1):\n    1\n"
    )
    with pytest.raises(UserError, match="hasn't passed yet"):
        commands.diff("rms_norm", tmp_path)
    assert "rsqrt" not in capsys.readouterr().out
    commands.diff("rms_norm", tmp_path, anyway=True)
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("def rms_norm(x, gain, eps=1):")
    assert "| def rms_norm(x: Tensor, gain: Tensor" in shown[1]
    assert max(map(len, shown)) <= 120
    Folder(tmp_path).note(RMS, passed=True)
    commands.diff("rms_norm", tmp_path)
    assert capsys.readouterr().out.splitlines() == shown


def test_watch_checks_each_change_until_it_passes(tmp_path, judged, monkeypatch):
    """The file vanishes for a moment, as it does when some editors save."""
    file = write(tmp_path, "rms_norm", "first")
    judged["rms_norm"] = Verdict(message="no")
    checks, naps = [], []
    live = commands.check_one

    def noting(exercise, mine, seconds):
        checks.append(mine.source(exercise))
        return live(exercise, mine, seconds)

    def nap(_):
        naps.append(1)
        if len(naps) == 2:
            file.unlink()
        if len(naps) == 4:
            judged.clear()
            file.write_text("second")

    monkeypatch.setattr(commands, "check_one", noting)
    monkeypatch.setattr(commands.time, "sleep", nap)
    commands.watch("rms_norm", tmp_path)
    assert checks == ["first", "second"]
