"""From a corpus to shards: split, reused, and replaced when anything changed."""

import os
import sys
import types

import pytest

from folio.config import UserError
from folio.data import open_corpus, open_shards, prepare
from folio.data.encode import encode_text
from folio.text.byte import ByteTokenizer
from folio.text.char import CharTokenizer

BYTES = ByteTokenizer()
TEXT = "".join(f"{n}. A fox met {n * n} hens; naïve 😀!\n" for n in range(400))


@pytest.fixture
def play(tmp_path):
    path = tmp_path / "play.txt"
    path.write_text(TEXT)
    return path


def both(folder, tokenizer=BYTES):
    return [open_shards(folder, s, tokenizer) for s in ("train", "validation")]


@pytest.mark.parametrize("shard_tokens", [1 << 26, 1000])
def test_one_text_is_split_by_position_and_nothing_is_added(
    play, tmp_path, shard_tokens, monkeypatch
):
    monkeypatch.setattr("folio.data.encode._BLOCK", 700)
    monkeypatch.setattr("folio.data.files.PIECE", 333)
    tokenizer = CharTokenizer.train([TEXT])
    folder = tmp_path / "shards"
    prepare(open_corpus(play), tokenizer, folder, shard_tokens=shard_tokens)
    train, validation = both(folder, tokenizer)
    cut = int(len(TEXT) * 0.9)
    assert tokenizer.decode(train[:].tolist()) == TEXT[:cut]
    assert tokenizer.decode(validation[:].tolist()) == TEXT[cut:]
    assert train.text_bytes == len(TEXT[:cut].encode())
    assert validation.text_bytes == len(TEXT[cut:].encode())
    assert len(train.parts) == (1 if shard_tokens > 10_000 else 10)


def test_text_bytes_are_exact_when_documents_are_split(play, tmp_path):
    prepare(open_corpus(play, separator="\n"), BYTES, tmp_path / "shards")
    train, validation = both(tmp_path / "shards")
    assert train.documents + validation.documents == 400
    assert train.text_bytes + validation.text_bytes == len(TEXT.encode()) - 400
    assert len(train) == train.text_bytes + train.documents


def test_the_same_request_is_answered_by_what_is_there(play, tmp_path):
    folder = tmp_path / "shards"
    assert not prepare(open_corpus(play), BYTES, folder)["reused"]
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert prepare(open_corpus(play), BYTES, folder, processes=2)["reused"]
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"val_fraction": 0.2},
        {"seed": 1},
        {"dedup": False},
        {"shard_tokens": 5000},
        {"tokenizer": CharTokenizer.train([TEXT])},
        {"separator": "\n"},
        {"touch": True},
    ],
)
def test_any_other_request_replaces_it(play, tmp_path, change):
    folder = tmp_path / "shards"
    prepare(open_corpus(play), BYTES, folder)
    if change.pop("touch", False):
        os.utime(play, ns=(1, 1))
    corpus = open_corpus(play, separator=change.pop("separator", None))
    tokenizer = change.pop("tokenizer", BYTES)
    assert not prepare(corpus, tokenizer, folder, **change)["reused"]
    assert both(folder, tokenizer)


def test_a_half_written_folder_is_noticed_and_written_again(play, tmp_path):
    folder = tmp_path / "shards"

    def again():
        reused = prepare(open_corpus(play), BYTES, folder)["reused"]
        train, validation = both(folder)
        assert BYTES.decode([*train[:], *validation[:]]) == TEXT
        return reused

    assert not again()
    (shard,) = folder.glob("train-*")
    for damage in (
        shard.unlink,
        lambda: shard.write_bytes(shard.read_bytes()[:-3]),
        lambda: shard.write_bytes(b""),
        (folder / "index.json").unlink,
        lambda: (folder / "index.json").write_text("{"),
        lambda: (folder / "index.json").write_text("[]"),
    ):
        damage()
        assert not again()
        assert again()


def test_a_bad_byte_late_in_the_text_changes_nothing(play, tmp_path):
    folder = tmp_path / "shards"
    prepare(open_corpus(play), BYTES, folder)
    play.write_bytes(TEXT.encode() + b"\xff")
    with pytest.raises(UserError, match=f"UTF-8 at byte {len(TEXT.encode())}"):
        prepare(open_corpus(play), BYTES, folder)
    assert both(folder)[0].documents == 1


def test_a_text_too_short_to_hold_anything_out_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    corpus = open_corpus(tmp_path / "a.txt")
    with pytest.raises(UserError, match="the train part would be empty"):
        prepare(corpus, BYTES, tmp_path / "shards", val_fraction=0.9)
    prepare(corpus, BYTES, tmp_path / "shards", val_fraction=0)
    assert BYTES.decode(open_shards(tmp_path / "shards")[:].tolist()) == "abc"


def test_encoding_one_text_reads_only_as_far_as_asked():
    read = []

    def pieces():
        for n in range(100):
            read.append(n)
            yield "x" * 100_000

    first = next(encode_text("train", pieces(), BYTES))
    assert len(first.ids) == 1 << 18
    assert len(read) < 10


@pytest.fixture
def fake_tales(monkeypatch):
    """A stand-in for the generator: its two parts tell different stories."""
    import folio.data

    def stories(seed, split="train"):
        return (f"{split} story {n} of world {seed}." * 20 for n in range(10**9))

    module = types.ModuleType("folio.data.tales")
    module.documents = stories
    monkeypatch.setitem(sys.modules, "folio.data.tales", module)
    monkeypatch.setattr(folio.data, "tales", module, raising=False)


@pytest.mark.usefixtures("fake_tales")
def test_tales_bring_their_own_split_in_the_amount_asked_for(tmp_path):
    corpus = open_corpus("tales", seed=5, megabytes=0.2)
    prepare(corpus, BYTES, tmp_path, val_fraction=0.2)
    train, validation = both(tmp_path)
    assert 160_000 <= train.text_bytes < 161_000
    assert 40_000 <= validation.text_bytes < 41_000
    assert BYTES.decode(train[:22].tolist()) == "train story 0 of world"
    assert BYTES.decode(validation[:18].tolist()) == "validation story 0"
    assert all(text.startswith("train") for text in corpus.training_texts(0.2))
    assert prepare(corpus, BYTES, tmp_path, val_fraction=0.2)["reused"]
    other = open_corpus("tales", seed=6, megabytes=0.2)
    assert not prepare(other, BYTES, tmp_path, val_fraction=0.2)["reused"]
