"""A process of its own: what hangs, crashes or ends comes back as a message."""

import os
import sys
import time
from pathlib import Path

import pytest

from folio.config import UserError
from folio.learn.exercises import find
from folio.learn.runner import check_file, run_alone
from learn.answers import changed, right, write


def checked(folder, name: str, text: str, seconds: float = 20.0):
    return check_file(find(name), write(folder, name, text), seconds)


def test_the_hook_puts_it_into_the_package(tmp_path):
    """Into what `folio.text.bpe` imports; and what it printed is kept."""
    text = changed(
        "encode_word",
        "ids, never = list(ids), len(ranks)",
        "import sys\n"
        "    if sys._getframe(1).f_globals['__name__'] == 'folio.text.bpe':\n"
        "        print('from the package')\n"
        "        return list(ids)\n"
        "    ids, never = list(ids), len(ranks)",
    )
    verdict, printed = checked(tmp_path, "encode_word", text)
    assert verdict.message.startswith("a byte-level tokenizer with yours in it")
    assert len(verdict.held) == len(find("encode_word").checks) - 1
    assert "from the package" in printed


def test_a_right_answer_passes(tmp_path):
    verdict, _ = checked(tmp_path, "softmax", right("softmax"))
    assert verdict.passed
    assert len(verdict.held) == len(find("softmax").checks)


def test_an_endless_loop_is_told_with_its_line(tmp_path):
    text = changed("merge_pair", "    return glued", "    while True:\n        pass")
    verdict, _ = checked(tmp_path, "merge_pair", text, seconds=0.5)
    assert verdict.message == "still running after 0.5 seconds: an endless loop?"
    assert text.splitlines()[verdict.line - 1].strip() in ("while True:", "pass")


def test_an_end_without_a_verdict(tmp_path):
    text = changed("merge_pair", "return glued", "__import__('os')._exit(3)")
    verdict, _ = checked(tmp_path, "merge_pair", text)
    assert verdict.message.startswith("Python ended (status 3) before all was checked")


def test_what_ends_python_quietly_or_asks_is_told_so(tmp_path):
    text = changed("merge_pair", "return glued", "__import__('os')._exit(0)")
    verdict, _ = checked(tmp_path, "merge_pair", text)
    assert verdict.message == "your code ended Python; leave `exit` out"
    text = changed("merge_pair", "return glued", "return input('which pair? ')")
    verdict, _ = checked(tmp_path, "merge_pair", text)
    assert verdict.message == "nobody answers `input()` here; leave it out"


def test_printing_without_end_fills_no_disk(tmp_path):
    loop = "    while True:\n        print('x' * 10**6)"
    verdict, printed = checked(
        tmp_path, "merge_pair", changed("merge_pair", "    return glued", loop)
    )
    assert verdict.message == "it prints or writes more than 16 MB"
    assert len(printed) <= 4000


def test_a_thread_that_goes_on_is_not_waited_for(tmp_path):
    text = right("merge_pair") + (
        "\nimport threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
    )
    began = time.monotonic()
    verdict, _ = checked(tmp_path, "merge_pair", text)
    assert verdict.passed
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_cannot_be(tmp_path, seconds):
    with pytest.raises(UserError, match="must lie above 0"):
        checked(tmp_path, "merge_pair", "", seconds)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_no_child_is_left_behind(tmp_path):
    """Neither after the time is over, nor after the end."""
    started = tmp_path / "pid"
    child = "import time; time.sleep(60)"
    for then in ("", "time.sleep(60)"):
        code = (
            "import subprocess, sys, time, pathlib;"
            f"p = subprocess.Popen([sys.executable, '-c', {child!r}]);"
            f"pathlib.Path({str(started)!r}).write_text(str(p.pid));{then}"
        )
        status, _, _ = run_alone([sys.executable, "-c", code], 2.0)
        assert status == (None if then else 0)
        assert gone(int(started.read_text()))


def gone(pid: int) -> bool:
    """Is it no more than a name in the table of processes?"""
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
