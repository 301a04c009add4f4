"""Files that are whole or not there; a folder that one process holds."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from folio import files
from folio.config import UserError
from folio.files import (
    LOCK,
    exclusive,
    fsync_file,
    make_folder,
    remove_temporary,
    write_atomically,
)
from helpers import wait_for


def test_text_and_bytes_are_written_with_their_folder_tidy(tmp_path):
    path = tmp_path / "a.txt"
    assert write_atomically(path, "the miller’s ☃\n") == path
    assert path.read_bytes() == "the miller’s ☃\n".encode()
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_it_is_flushed_before_it_is_renamed_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def watch(name):
        def call(*arguments):
            calls.append(name)
            return real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(os, name, watch(name))
    write_atomically(tmp_path / "a", "x")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("broken", ["fsync", "replace", "chmod", "fdopen"])
def test_a_failing_disk_leaves_the_old_file_and_no_debris(
    tmp_path, monkeypatch, broken
):
    path = write_atomically(tmp_path / "a", "old")

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(UserError, match=f"could not write {path}: No space left on"):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "a", "old")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(UserError, match=r"could not write .*: No such file"):
        write_atomically(tmp_path / "none" / "a", "x")


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".tmp-a", "kept", ".hidden"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / ".tmp-folder" / "x").write_text("x")
    remove_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "kept"]
    remove_temporary(tmp_path / "none")


def test_the_name_of_each_new_folder_is_flushed(tmp_path, monkeypatch):
    """Or a power cut takes the folder, with all that was flushed inside it."""
    flushed = []
    monkeypatch.setattr("folio.files.fsync_folder", flushed.append)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert sorted(flushed) == [tmp_path, tmp_path / "a"]
    make_folder(tmp_path / "a" / "b")
    assert len(flushed) == 2


def test_a_log_that_can_t_be_flushed_is_one_line(tmp_path, monkeypatch):
    """Neither its bytes nor its name."""
    (tmp_path / "a").write_text("x")

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    for owner, name in ((os, "fsync"), (files, "fsync_folder")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(UserError, match=r"could not write .*a: Input/output"):
                fsync_file(tmp_path / "a")


def test_flushing_changes_nothing(tmp_path):
    (tmp_path / "a").write_text("x")
    fsync_file(tmp_path / "a")
    fsync_file(tmp_path / "none")
    assert (tmp_path / "a").read_text() == "x"
    assert os.listdir(tmp_path) == ["a"]


# ---- one process a folder ------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from folio.files import exclusive
with exclusive(Path(sys.argv[1])):
    Path(sys.argv[1], "held").touch()
    print("held", flush=True)
    time.sleep(60)
"""


WORKER = """
import os, sys, time
from pathlib import Path
from folio.files import exclusive
with exclusive(Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    else:
        Path(sys.argv[1], "forked").touch()
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    folder = tmp_path / "run"
    with (
        pytest.raises(UserError, match=rf"in use by process {holder.pid} on \S+; wait"),
        exclusive(folder),
    ):
        pytest.fail("two hold it")
    holder.kill()
    holder.wait()
    with exclusive(folder):
        assert (folder / "held").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_worker_that_outlives_the_holder_does_not_hold(tmp_path):
    """The kernel's lock is shared by forked children; ours must die with us."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = int(process.stdout.readline())
    wait_for((tmp_path / "run" / "forked").exists)
    try:
        with pytest.raises(UserError, match="in use"), exclusive(tmp_path / "run"):
            pytest.fail("held while the holder lives")
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it is still there
        with exclusive(tmp_path / "run"):
            pass
    finally:
        os.kill(worker, 9)
        process.stdout.close()


def test_a_lock_that_is_let_go_in_a_moment_is_waited_for(tmp_path):
    """As by a process just started by one that was killed; not for a real holder."""
    file = open(tmp_path / LOCK, "a+")  # noqa: SIM115 (closed below)
    assert files._try_lock(file)
    threading.Timer(files.PATIENCE / 4, file.close).start()
    with exclusive(tmp_path):
        assert file.closed


def test_a_second_holder_in_one_process_is_refused(tmp_path):
    with exclusive(tmp_path):
        with pytest.raises(UserError, match="in use"), exclusive(tmp_path):
            pytest.fail("held twice")
        (tmp_path / "file").touch()
    with exclusive(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == [LOCK, "file"]


@pytest.mark.parametrize("broken", ["write", "ftruncate"])
def test_a_lock_that_can_t_be_signed_is_one_line(tmp_path, monkeypatch, broken):
    """On a full disk the lock file can be made, and nothing be written into it."""

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with (
        pytest.raises(UserError, match=r"run: can't be used: No space left"),
        exclusive(tmp_path / "run"),
    ):
        pytest.fail("held without a name")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []  # nothing was put into it: it was never there
    with exclusive(tmp_path / "run"):
        pass


def test_a_folder_removed_while_it_is_being_locked_is_made_again(tmp_path, monkeypatch):
    """By one who has held it, left it as it was, and so removed it."""
    real, seen = os.listdir, []

    def listed(folder):
        found = real(folder)
        if not seen:
            seen.append(os.rmdir(folder))
        return found

    monkeypatch.setattr(os, "listdir", listed)
    with exclusive(tmp_path / "run"):
        (tmp_path / "run" / "x").touch()
    assert seen == [None]
    with (
        pytest.raises(UserError, match="can't be used: File exists"),
        exclusive(tmp_path / "run" / "x"),
    ):
        pytest.fail("a file is no folder")


def test_a_folder_that_stays_empty_is_removed_as_far_as_it_was_made(tmp_path):
    with exclusive(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with exclusive(tmp_path / "mine"):
        pass
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == []


def test_a_lock_whose_file_was_removed_meanwhile_is_not_held(tmp_path, monkeypatch):
    """Else two could hold one folder, each a lock of its own."""
    from folio import files

    real = files._try_lock

    def removed_first(file):
        (tmp_path / LOCK).unlink()
        return real(file)

    monkeypatch.setattr(files, "_try_lock", removed_first)
    with pytest.raises(UserError, match="in use"), exclusive(tmp_path):
        pytest.fail("held")


def test_a_folder_that_can_t_be_one_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/x/run")):
        with pytest.raises(UserError, match="can't be used"), exclusive(folder):
            pytest.fail("held")
