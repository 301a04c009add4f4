"""Many processes prepare one corpus: any order, any interruption, the same bytes."""

import json
import multiprocessing
import random
import shutil
from pathlib import Path

import pytest

from folio.config import UserError
from folio.data import encode, open_corpus, open_shards, prepare, shard_parts
from folio.data.shard_parts import merge_parts, part_folder, prepare_part
from folio.data.shards import read_index
from folio.text.byte import ByteTokenizer

BYTES = ByteTokenizer()
OPTIONS = {"shard_tokens": 900, "val_fraction": 0.2}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(encode, "_BLOCK", 300)


@pytest.fixture
def corpus(tmp_path):
    """Seven files of JSON lines, of which some documents come twice."""
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(7):
        texts = [f"{number}.{i}: a fox met {i * i} hens." for i in range(30 + number)]
        texts += [texts[3], "everywhere the same"]
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    return open_corpus(folder)


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def prepared(corpus, folder, parts, order=None, **options):
    """All parts, in some order, and merged."""
    for part in order or range(parts):
        prepare_part(corpus, BYTES, folder, part, parts, **(OPTIONS | options))
    return merge_parts(folder, parts)


def texts_of(folder, split):
    text = BYTES.decode(open_shards(folder, split, BYTES)[:])
    return text.split("<|endoftext|>")[:-1]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_any_order_gives_the_same_bytes(corpus, tmp_path, parts):
    one = prepared(corpus, tmp_path / "one", parts)
    order = list(range(parts))
    random.Random(parts).shuffle(order)
    other = prepared(corpus, tmp_path / "other", parts, order[::-1])
    assert one == other
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")
    assert set(files_of(tmp_path / "one")) == {
        "index.json",
        *(entry["file"] for entry in one["shards"]),
    }


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_the_tokens_are_those_of_the_corpus_at_a_stroke(corpus, tmp_path, parts):
    whole = prepare(corpus, BYTES, tmp_path / "whole", dedup=False, **OPTIONS)
    index = prepared(corpus, tmp_path / "parts", parts, dedup=False)
    assert index["counts"] == whole["counts"]
    for split in ("train", "validation"):
        ours = open_shards(tmp_path / "parts", split, BYTES)
        theirs = open_shards(tmp_path / "whole", split, BYTES)
        assert ours[:].tolist() == theirs[:].tolist()
        assert (ours.documents, ours.text_bytes) == (
            theirs.documents,
            theirs.text_bytes,
        )


def test_one_part_is_the_whole_folder_byte_for_byte(corpus, tmp_path):
    prepare(corpus, BYTES, tmp_path / "whole", **OPTIONS)
    prepared(corpus, tmp_path / "part", 1)
    whole, part = files_of(tmp_path / "whole"), files_of(tmp_path / "part")
    assert whole.keys() == part.keys()
    assert all(whole[name] == part[name] for name in whole if name != "index.json")


def test_repeats_go_within_a_part_and_no_text_is_on_both_sides(corpus, tmp_path):
    index = prepared(corpus, tmp_path / "shards", 7)
    assert index["counts"]["duplicates"] == 7  # "everywhere the same" stays in each
    train, held = (texts_of(tmp_path / "shards", s) for s in ("train", "validation"))
    assert not set(train) & set(held)
    assert len(set(train) | set(held)) == sum(30 + n for n in range(7)) + 1


def prepare_one(corpus, folder, part):
    encode._BLOCK = 300  # a process of its own has its own
    prepare_part(corpus, BYTES, folder, part, 3, **OPTIONS)


@pytest.mark.multi
def test_processes_at_the_same_time_even_on_the_same_part(corpus, tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=prepare_one, args=(corpus, tmp_path / "shards", part))
        for part in (0, 1, 2, 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    merge_parts(tmp_path / "shards", 3)
    prepared(corpus, tmp_path / "alone", 3)
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "alone")


def test_what_is_there_is_kept(corpus, tmp_path, monkeypatch):
    folder = tmp_path / "shards"
    assert not prepare_part(corpus, BYTES, folder, 0, 2, **OPTIONS)["reused"]
    assert prepare_part(corpus, BYTES, folder, 0, 2, **OPTIONS)["reused"]
    prepare_part(corpus, BYTES, folder, 1, 2, **OPTIONS)
    assert not merge_parts(folder, 2)["reused"]
    before = files_of(folder)
    assert merge_parts(folder, 2)["reused"]
    assert prepare_part(corpus, BYTES, folder, 1, 2, **OPTIONS)["reused"]
    assert prepare(corpus, BYTES, folder, **OPTIONS)["reused"]  # pretraining finds them
    assert files_of(folder) == before
    assert not prepare(corpus, BYTES, folder, dedup=False, **OPTIONS)["reused"]


class Interrupted(BaseException):
    """Like a kill: no `except Exception` catches it."""


def test_killed_while_merging_it_can_be_done_again(corpus, tmp_path, monkeypatch):
    prepared(corpus, tmp_path / "wanted", 3)
    wanted = files_of(tmp_path / "wanted")
    for part in range(3):
        prepare_part(corpus, BYTES, tmp_path / "parts", part, 3, **OPTIONS)
    moment = stopped = 0
    while stopped == moment:
        folder = tmp_path / f"try-{moment}"
        shutil.copytree(tmp_path / "parts", folder)
        steps = iter(range(1000))
        with monkeypatch.context() as patch:
            for owner, name in ((Path, "rename"), (Path, "unlink"), (Path, "rmdir")):
                patch.setattr(
                    owner, name, stopping_at(getattr(owner, name), steps, moment)
                )
            try:
                merge_parts(folder, 3)
            except Interrupted:
                stopped += 1
        merge_parts(folder, 3)
        assert files_of(folder) == wanted, moment
        moment += 1
    assert moment > 20


def stopping_at(function, steps, moment):
    def wrapped(*arguments, **options):
        if next(steps) == moment:
            raise Interrupted
        return function(*arguments, **options)

    return wrapped


# ---- what is refused -----------------------------------------------------------------


def test_parts_that_are_missing_or_of_something_else(corpus, tmp_path):
    folder = tmp_path / "shards"
    with pytest.raises(UserError, match="no parts here"):
        merge_parts(folder, 3)
    prepare_part(corpus, BYTES, folder, 1, 3, **OPTIONS)
    with pytest.raises(UserError, match=r"part-00000-of-00003, part-00002-.* not prep"):
        merge_parts(folder, 3)
    prepare_part(corpus, BYTES, folder, 0, 3, **OPTIONS)
    prepare_part(corpus, BYTES, folder, 2, 3, **(OPTIONS | {"shard_tokens": 800}))
    with pytest.raises(UserError, match=r"part 2 was prepared .* other options"):
        merge_parts(folder, 3)
    prepare_part(corpus, BYTES, folder, 2, 3, **OPTIONS)
    shard = next(part_folder(folder, 2, 3).glob("*.tokens"))
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated"):
        merge_parts(folder, 3)
    assert not (folder / "index.json").exists()
    prepare_part(corpus, BYTES, folder, 2, 3, **OPTIONS)  # heals it
    assert merge_parts(folder, 3)["counts"]["documents"] == 245


def test_parts_that_there_are_not(corpus, tmp_path):
    for part, parts, message in (
        (0, 0, "parts = 0: must lie in 1"),
        (3, 3, r"part = 3: must lie in 0\.\.2"),
        (-1, 3, "part = -1"),
        (0, 8, "8 parts of 7 files; ask for at most 7"),
    ):
        with pytest.raises(UserError, match=message):
            prepare_part(corpus, BYTES, tmp_path / "shards", part, parts)
    (tmp_path / "one.txt").write_text("one text")
    for name in ("tales", str(tmp_path / "one.txt")):
        with pytest.raises(UserError, match="can't be cut into parts"):
            prepare_part(open_corpus(name), BYTES, tmp_path / "shards", 0, 2)


def test_nothing_to_hold_out_is_noticed_when_all_is_there(corpus, tmp_path):
    folder = tmp_path / "shards"
    for part in range(3):
        prepare_part(corpus, BYTES, folder, part, 3, val_fraction=1e-9)
    with pytest.raises(UserError, match="the validation part would be empty: 245 doc"):
        merge_parts(folder, 3)


def test_numbers_of_parts_must_not_run_into_one_another(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_parts, "MOST_SHARDS", 2)
    with pytest.raises(UserError, match=r"part \d has over 2 shards.*more parts"):
        prepared(corpus, tmp_path / "shards", 2)


def test_shards_stand_in_the_order_of_their_parts(corpus, tmp_path):
    prepared(corpus, tmp_path / "shards", 3)
    numbers = [
        (entry["split"], entry["part"])
        for entry in read_index(tmp_path / "shards")["shards"]
    ]
    assert numbers == sorted(numbers)
    assert {part // shard_parts.MOST_SHARDS for _, part in numbers} == {0, 1, 2}
