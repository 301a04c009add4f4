"""Folders of shards: whole or refused, old or new, never something between."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from folio.config import UserError
from folio.data import encode, open_shards, write_shards
from folio.data.shard_file import HEADER_BYTES
from folio.data.shards import read_index
from folio.data.split import split_of
from folio.text.byte import ByteTokenizer
from folio.text.char import CharTokenizer

STORIES = [f"Story {n}: a fox met {n * n} hens.\n" * (n % 5 + 1) for n in range(300)]
BYTES = ByteTokenizer()


def files_of(folder):
    files = [path for path in sorted(folder.iterdir()) if path.name != ".lock"]
    return {path.name: path.read_bytes() for path in files}


def text_of(tokens, tokenizer=BYTES):
    return tokenizer.decode(tokens[:].tolist())


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """So that a few kilobytes of text make several blocks and shards."""
    monkeypatch.setattr(encode, "_BLOCK", 2000)


@pytest.fixture
def shards(tmp_path):
    """A small folder with three training shards and one for validation."""
    write_shards(STORIES, BYTES, tmp_path / "shards", shard_tokens=9000)
    return tmp_path / "shards"


# What goes in comes out


def test_round_trip_in_order_with_end_of_text_after_each_document(shards):
    for split in ("train", "validation"):
        expected = [s for s in STORIES if split_of(s, 0.1) == split]
        tokens = open_shards(shards, split, BYTES)
        assert text_of(tokens) == "".join(s + "<|endoftext|>" for s in expected)
        assert int((tokens[:] == BYTES.end_of_text).sum()) == len(expected)
        assert tokens.documents == len(expected)
        assert tokens.text_bytes == sum(len(s.encode()) for s in expected)
        assert tokens.vocab_size == BYTES.vocab_size


def test_a_document_cannot_forge_the_end_of_text(tmp_path):
    write_shards(["one<|endoftext|>two"], BYTES, tmp_path, val_fraction=0)
    ids = open_shards(tmp_path, "train", BYTES)[:]
    assert np.flatnonzero(ids == BYTES.end_of_text).tolist() == [len(ids) - 1]


def test_several_shards_read_as_one_without_being_copied(shards):
    tokens = open_shards(shards)
    assert len(tokens.parts) > 1
    assert all(isinstance(part.base, np.memmap) for part in tokens.parts)
    assert not tokens.parts[0].flags.writeable


def test_any_number_of_processes_writes_the_same_bytes(tmp_path):
    for processes in (1, 2, 3):
        folder = tmp_path / str(processes)
        write_shards(STORIES * 40, BYTES, folder, dedup=False, processes=processes)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    assert files_of(tmp_path / "1") == files_of(tmp_path / "3")
    with pytest.raises(UserError, match="processes = 0"):
        write_shards(STORIES, BYTES, tmp_path / "none", processes=0)


class WideTokenizer(ByteTokenizer):
    """Bytes spread over a vocabulary that needs 32 bits."""

    name = "wide"
    vocab_size = 70_000

    def encode(self, text):
        return [69_000 + byte for byte in text.encode()]


def test_a_large_vocabulary_takes_32_bits(tmp_path):
    tokenizer = WideTokenizer()
    write_shards(["abc"], tokenizer, tmp_path, val_fraction=0)
    tokens = open_shards(tmp_path, "train")
    assert tokens[:].dtype == np.uint32
    assert tokens[:3].tolist() == [69_097, 69_098, 69_099]
    (entry,) = read_index(tmp_path)["shards"]
    assert entry["dtype"] == "uint32"


def test_an_id_the_vocabulary_lacks_is_never_written(tmp_path):
    tokenizer = WideTokenizer()
    tokenizer.encode = lambda text: [70_000]
    with pytest.raises(ValueError, match="outside its vocabulary of 70000"):
        write_shards(["abc"], tokenizer, tmp_path, val_fraction=0)
    assert files_of(tmp_path) == {}


def test_fingerprint_follows_the_content(tmp_path):
    def fingerprint(name, stories):
        write_shards(stories, BYTES, tmp_path / name, val_fraction=0)
        return open_shards(tmp_path / name).fingerprint

    assert fingerprint("a", STORIES) == fingerprint("b", STORIES)
    assert fingerprint("a", STORIES) != fingerprint("c", STORIES[::-1])


# Choosing documents


def test_repeated_and_empty_documents_are_counted_and_left_out(tmp_path):
    index = write_shards(["a", "b", "", "a", "a"], BYTES, tmp_path, val_fraction=0)
    assert index["counts"] == {"documents": 5, "duplicates": 2, "empty": 1}
    assert text_of(open_shards(tmp_path)) == "a<|endoftext|>b<|endoftext|>"
    write_shards(["a", "b", "", "a"], BYTES, tmp_path, val_fraction=0, dedup=False)
    assert open_shards(tmp_path).documents == 3


def test_parts_are_disjoint_and_depend_on_nothing_but_the_document(tmp_path):
    def validation(stories, name, **options):
        write_shards(stories, BYTES, tmp_path / name, val_fraction=0.3, **options)
        parts = [
            set(text_of(open_shards(tmp_path / name, split)).split("<|endoftext|>"))
            for split in ("train", "validation")
        ]
        assert parts[0] & parts[1] == {""}
        assert parts[0] | parts[1] == {*stories, ""}
        return parts[1]

    base = validation(STORIES, "base")
    assert validation(STORIES[::-1], "reversed") == base
    assert validation(STORIES[:150], "half") == base & {*STORIES[:150], ""}
    assert validation(STORIES, "other", seed=1) != base
    assert 60 < len(base) < 120


def test_a_part_that_would_be_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match="the validation part would be empty: 1 docu"):
        write_shards(["b"], BYTES, tmp_path, val_fraction=0.1)
    with pytest.raises(UserError, match="the train part would be empty: 0 documents"):
        write_shards([], BYTES, tmp_path, val_fraction=0)
    with pytest.raises(UserError, match="val_fraction = 1"):
        write_shards(["b"], BYTES, tmp_path, val_fraction=1)
    assert files_of(tmp_path) == {}
    write_shards(["b"], BYTES, tmp_path, val_fraction=0)
    with pytest.raises(UserError, match="no 'validation' part; it has train"):
        open_shards(tmp_path, "validation")


def test_a_lone_surrogate_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="surrogate at character 2"):
        write_shards(["ab\ud800"], BYTES, tmp_path, val_fraction=0)


# Damage

# Of the shard of "A tale.": 16 bytes of ids, and enough of the 1,024 before them.
MUTATED_BYTES = [*range(20), *range(20, 1024, 7), *range(1000, 1024 + 16)]


def test_every_flipped_bit_is_refused_with_the_shard_named(tmp_path):
    write_shards(["A tale."], BYTES, tmp_path, val_fraction=0)
    (path,) = tmp_path.glob("*.tokens")
    good = path.read_bytes()
    for place in MUTATED_BYTES:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(UserError, match=path.name):
            open_shards(tmp_path)
    path.write_bytes(good)
    assert text_of(open_shards(tmp_path)) == "A tale.<|endoftext|>"


def test_every_truncation_and_any_excess_is_refused(tmp_path):
    write_shards(["A tale."], BYTES, tmp_path, val_fraction=0)
    (path,) = tmp_path.glob("*.tokens")
    good = path.read_bytes()
    for size in MUTATED_BYTES:
        path.write_bytes(good[:size])
        with pytest.raises(UserError, match=rf"{path.name}: truncated.*{size}"):
            open_shards(tmp_path, check_ids=False)
    for excess in (b"\0", b"\0\0", b"\0" * 5):
        path.write_bytes(good + excess)
        with pytest.raises(UserError, match=f"{path.name}: too long"):
            open_shards(tmp_path, check_ids=False)


def test_every_flipped_bit_of_the_index_is_refused(tmp_path):
    write_shards(["A tale."], BYTES, tmp_path, val_fraction=0)
    path = tmp_path / "index.json"
    good = path.read_bytes()
    refused = 0
    places = range(0, len(good), 3)
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 7
        path.write_bytes(bad)
        try:
            assert text_of(open_shards(tmp_path)) == "A tale.<|endoftext|>"
        except UserError as error:
            refused += "index.json: damaged" in str(error)
    # What is left is white space turned into other white space.
    assert refused > 0.95 * len(places)


def test_swapped_missing_and_borrowed_shards_are_refused(shards, tmp_path):
    first, second, *_ = sorted(shards.glob("train-*"))
    originals = first.read_bytes(), second.read_bytes()
    first.write_bytes(originals[1])
    second.write_bytes(originals[0])
    with pytest.raises(UserError, match=f"{first.name}: another shard .*part is 1"):
        open_shards(shards)
    first.write_bytes(originals[0])
    second.unlink()
    with pytest.raises(UserError, match=f"{second.name}: shard is missing"):
        open_shards(shards)
    other = tmp_path / "other"
    write_shards([s.upper() for s in STORIES], BYTES, other, shard_tokens=9000)
    shutil.copy(sorted(other.glob("train-*"))[1], second)
    with pytest.raises(UserError, match=f"{second.name}: another shard"):
        open_shards(shards)


def test_a_file_that_is_no_shard_is_refused(shards):
    (path,) = shards.glob("validation-*")
    path.write_bytes(b"PK\x03\x04" + bytes(4000))
    with pytest.raises(UserError, match=rf"{path.name}: not a Folio shard"):
        open_shards(shards, "validation")


def signed_again(path, **changes):
    """Rewrite a header with a valid checksum: a broken writer, not a broken disk."""
    content = path.read_bytes()
    first, rest = content[: HEADER_BYTES - 65].split(b"\n", 1)
    version = changes.pop("version", None)
    if version is not None:
        first = b"FOLIO TOKENS " + version
    fields = {**json.loads(rest), **changes}
    text = first + b"\n" + json.dumps(fields).encode()
    text = text.ljust(HEADER_BYTES - 66) + b"\n"
    digest = hashlib.sha256(text).hexdigest().encode() + b"\n"
    path.write_bytes(text + digest + content[HEADER_BYTES:])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "uint32"}, "dtype 'uint32' where a vocabulary of .* 'uint16'"),
        ({"dtype": "float16"}, "dtype 'float16'"),
        ({"vocab_size": 100_000}, "dtype 'uint16' where"),
        ({"max_id": 5000}, "holds id 5000, outside its vocabulary"),
        ({"max_id": 50}, "id .* at byte .* is above 50|max_id is 50"),
        ({"version": b"2"}, "shard format '2', but this Folio reads 1"),
        ({"extra": 1}, "wrong fields"),
        ({"tokens": "many"}, "wrong fields"),
        ({"tokens": 3}, "too long"),
        ({"tokens": -3}, "too long"),
        ({"tokenizer": "0" * 64}, "tokenizer is"),
    ],
)
def test_headers_that_contradict_are_refused(tmp_path, changes, words):
    write_shards(["A tale."], BYTES, tmp_path, val_fraction=0)
    (path,) = tmp_path.glob("*.tokens")
    signed_again(path, **changes)
    with pytest.raises(UserError, match=words) as caught:
        open_shards(tmp_path)
    assert path.name in str(caught.value)


def test_an_id_above_the_header_is_named_with_its_byte(tmp_path):
    write_shards(["A tale."], BYTES, tmp_path, val_fraction=0)
    (path,) = tmp_path.glob("*.tokens")
    content = bytearray(path.read_bytes())
    place = HEADER_BYTES + 2 * 3
    content[place : place + 2] = (60_000).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path.name}: .*id 60000 at byte {place} "):
        open_shards(tmp_path)
    assert open_shards(tmp_path, check_ids=False)[3] == 60_000


def test_another_tokenizer_is_refused(shards):
    other = CharTokenizer.train(STORIES)
    with pytest.raises(UserError, match=r"made with another tokenizer .vocabulary 26"):
        open_shards(shards, "train", other)


def test_no_folder_and_no_index_are_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no prepared data here"):
            open_shards(folder)


def test_an_index_cannot_point_outside_its_folder(tmp_path):
    from folio.data import shards as module

    write_shards(["A tale."], BYTES, tmp_path / "a", val_fraction=0)
    index = read_index(tmp_path / "a")
    index["shards"][0]["file"] = "../a/" + index["shards"][0]["file"]
    index["sha256"] = module._seal(index)
    (tmp_path / "a" / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="odd file name"):
        open_shards(tmp_path / "a")
