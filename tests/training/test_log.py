"""What a run writes down, and that it can always be read again."""

import json
import os

import pytest

from folio.config import UserError
from folio.training.hooks import LogMetrics
from folio.training.log import JsonLines, forget_after, read_rows
from folio.training.run import Clock, Progress, Run, rewind


def write(path, *rows):
    log = JsonLines(path)
    for row in rows:
        log.write(row)
    log.close()


def test_rows_come_back(tmp_path):
    rows = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "text": "a ☃\n\u2028 “b”"}]
    write(tmp_path / "log", *rows)
    assert read_rows(tmp_path / "log") == rows
    write(tmp_path / "log", {"step": 3})
    assert len(read_rows(tmp_path / "log")) == 3
    assert read_rows(tmp_path / "none") == []


def test_what_json_has_no_number_for_becomes_null(tmp_path):
    row = {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 1.5}
    write(tmp_path / "log", row)
    text = (tmp_path / "log").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": None,
        "c": None,
        "d": 1.5,
    }


def test_each_row_is_there_as_soon_as_it_is_written(tmp_path):
    log = JsonLines(tmp_path / "log")
    log.write({"step": 1})
    assert read_rows(tmp_path / "log") == [{"step": 1}]


def test_a_last_line_torn_anywhere_is_dropped(tmp_path):
    """Also in the middle of a character."""
    rows = [{"step": 1, "text": "☃"}, {"step": 2, "text": "the miller’s ☃ hen"}]
    write(tmp_path / "log", *rows)
    whole = (tmp_path / "log").read_bytes()
    first = len(whole.splitlines(keepends=True)[0])
    for size in range(first, len(whole) - 1):
        (tmp_path / "log").write_bytes(whole[:size])
        assert read_rows(tmp_path / "log") == rows[:1]
    (tmp_path / "log").write_bytes(whole[:-1])  # only the newline is lost
    assert read_rows(tmp_path / "log") == rows
    (tmp_path / "log").write_bytes(whole[:first] + b"\0" * 40)  # after a power cut
    assert read_rows(tmp_path / "log") == rows[:1]


def test_a_bad_line_in_the_middle_is_an_error_with_its_place(tmp_path):
    for bad in (b"{torn\n", b"\xe2\x98\n"):
        (tmp_path / "log").write_bytes(b'{"step": 1}\n' + bad + b'{"step": 3}')
        with pytest.raises(UserError, match="log, line 2: not valid JSON"):
            read_rows(tmp_path / "log")


def test_the_future_is_forgotten(tmp_path):
    write(tmp_path / "log", *({"step": s, "n": n} for s in (1, 2, 3) for n in (0, 1)))
    with open(tmp_path / "log", "ab") as file:
        file.write(b'{"step": 4, "te')
    forget_after(tmp_path / "log", 2)
    assert [row["step"] for row in read_rows(tmp_path / "log")] == [1, 1, 2, 2]
    write(tmp_path / "log", {"step": 3})
    assert len(read_rows(tmp_path / "log")) == 5
    forget_after(tmp_path / "none", 2)
    assert not (tmp_path / "none").exists()


def test_from_the_beginning_everything_is_forgotten(tmp_path):
    """The samples of the untrained model will be written again."""
    run = Run(tmp_path)
    write(run.samples, {"step": 0}, {"step": 4})
    write(run.metrics, {"step": 3})
    rewind(run, 0)
    assert read_rows(run.samples) == read_rows(run.metrics) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")
    log = JsonLines(tmp_path / "log")
    with pytest.raises(UserError, match=r"could not write .*log: No space left"):
        log.write({"step": 1})
    log.close()  # its buffer can't be written either; that has been said


class Rows(list):
    """A sink in memory."""

    def write(self, row):
        self.append(dict(row))

    def close(self):
        pass


class Stepping:
    """As much of a learner as the log looks at."""

    step = 0
    denominator = 0.0

    def advance(self):
        self.step += 1
        self.denominator += 10.0
        return self


def test_rows_hold_means_since_the_last_row_and_the_rate_of_the_step():
    rows, learner = Rows(), Stepping()
    log = LogMetrics([rows], Clock(Progress()), every=3, last=7)
    for step in range(1, 8):
        log(learner.advance(), {"loss": float(step), "lr": step / 10})
    assert [row["step"] for row in rows] == [3, 6, 7]
    assert [row["loss"] for row in rows] == [2.0, 5.0, 7.0]
    assert [row["lr"] for row in rows] == [0.3, 0.6, 0.7]
    assert [row["tokens"] for row in rows] == [30.0, 60.0, 70.0]
    assert [set(row) >= {"tokens_per_second"} for row in rows] == [False, True, True]


def test_the_means_go_on_after_an_interruption():
    """A row must not depend on where between two rows the run was interrupted."""
    whole, learner = Rows(), Stepping()
    log = LogMetrics([whole], Clock(Progress()), every=4, last=4)
    for step in range(1, 5):
        log(learner.advance(), {"loss": 0.1 * step, "lr": 0.0})
    for cut in range(1, 4):
        rows, learner, progress = Rows(), Stepping(), Progress()
        for step in range(1, 5):
            if step in (1, cut + 1):  # a new process, with what the snapshot kept
                progress = Progress(**json.loads(json.dumps(progress.state_dict())))
                log = LogMetrics([rows], Clock(progress), every=4, last=4)
            log(learner.advance(), {"loss": 0.1 * step, "lr": 0.0})
        assert [row["loss"] for row in rows] == [row["loss"] for row in whole]
