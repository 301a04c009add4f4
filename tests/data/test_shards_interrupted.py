"""Preparing data is all or nothing: interrupted, killed, on a full disk, or twice."""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from folio.config import UserError
from folio.data import encode, open_shards, write_shards
from folio.data.encode import encode_documents
from folio.data.shard_file import ShardWriter
from folio.data.shards import read_index, store
from folio.data.split import Counts, Labeled, split_of
from folio.text.byte import ByteTokenizer

STORIES = [f"Story {n}: a fox met {n * n} hens.\n" * (n % 5 + 1) for n in range(300)]
BYTES = ByteTokenizer()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """So that a few kilobytes of text make several blocks and shards."""
    monkeypatch.setattr(encode, "_BLOCK", 2000)


def text_of(tokens):
    return BYTES.decode(tokens[:].tolist())


class Interrupted(BaseException):
    """Like Ctrl-C: no `except Exception` catches it."""


def interrupt_at(monkeypatch, moment, action):
    """Let the `moment`-th step that touches the disk (or the text) do `action`."""
    steps = iter(range(10_000))

    def before(function):
        def wrapped(*arguments, **options):
            if next(steps) == moment:
                action()
            return function(*arguments, **options)

        return wrapped

    for owner, name in (
        (os, "fsync"),
        (Path, "rename"),
        (Path, "unlink"),
        (ShardWriter, "write"),
        (ShardWriter, "finish"),
    ):
        monkeypatch.setattr(owner, name, before(getattr(owner, name)))


def raise_interrupted():
    raise Interrupted


def raise_disk_full():
    raise OSError(28, "No space left on device")


NEW = [story.upper() for story in STORIES]


TRAIN_NEW = "".join(s + "<|endoftext|>" for s in NEW if split_of(s, 0.1) == "train")


def text_or_nothing(folder):
    """The training text; "" for a folder without data. Damage would raise."""
    has_data = (folder / "index.json").exists()
    return text_of(open_shards(folder)) if has_data else ""


@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("action", [raise_interrupted, raise_disk_full])
def test_interrupted_at_any_step_the_old_data_stay_or_the_new_are_whole(
    tmp_path, action, has_old
):
    folder = tmp_path / "shards"
    outcomes = []
    for moment in range(200):
        shutil.rmtree(folder, ignore_errors=True)
        if has_old:
            write_shards(STORIES, BYTES, folder, shard_tokens=9000)
        old = text_or_nothing(folder)
        failed = False
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, moment, action)
            try:
                write_shards(NEW, BYTES, folder, shard_tokens=9000)
            except Interrupted:
                failed = True
            except UserError as error:
                failed = "No space left on device" in str(error)
        outcomes.append(text_or_nothing(folder))
        assert outcomes[-1] in (old, TRAIN_NEW)
        if not failed:
            break
    assert not failed
    assert outcomes[-1] == TRAIN_NEW
    assert outcomes.count(old) > 10


def test_killed_at_any_step_the_next_attempt_succeeds_and_sweeps(tmp_path):
    folder = tmp_path / "shards"
    write_shards(STORIES, BYTES, folder, shard_tokens=9000)
    old = text_of(open_shards(folder))
    killed = 0
    for moment in range(100):
        child = os.fork()
        if child == 0:
            interrupt_at(pytest.MonkeyPatch(), moment, lambda: os._exit(9))
            write_shards(NEW, BYTES, folder, shard_tokens=9000)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        text = text_of(open_shards(folder))
        assert text in (old, TRAIN_NEW)
        if status == 0:
            break
        killed += 1
        if text == TRAIN_NEW:  # killed after the change, while sweeping: go back
            write_shards(STORIES, BYTES, folder, shard_tokens=9000)
    assert killed > 10
    assert text == TRAIN_NEW
    named = {entry["file"] for entry in read_index(folder)["shards"]}
    assert set(os.listdir(folder)) - {".lock"} == {"index.json", *named}


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write_shards(STORIES, BYTES, tmp_path)
    write_shards(NEW, BYTES, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no shards were written"):
        write_shards(STORIES, BYTES, tmp_path / "file" / "shards")


def _store(folder, barrier, answers):
    def documents():
        for story in STORIES:
            yield Labeled("train", story)

    barrier.wait()
    index = store(
        encode_documents(documents(), BYTES),
        BYTES,
        folder,
        counts=Counts(),
        splits=("train",),
        request={"name": "stories"},
    )
    answers.put((index["reused"], text_of(open_shards(folder))))


def test_of_several_writers_one_writes_and_the_others_find_its_work(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    writers = [
        context.Process(target=_store, args=(tmp_path, barrier, answers))
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    found = sorted(answers.get(timeout=30) for _ in writers)
    for writer in writers:
        writer.join()
    assert [reused for reused, _ in found] == [False, True, True, True]
    assert len({text for _, text in found}) == 1
