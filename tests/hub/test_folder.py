"""A stranger's folder: every lie in it is one line, and nothing of it is run."""

import json
import os
import random
import re
import struct

import pytest
import torch
from safetensors.torch import save_file

from folio.config import UserError
from folio.hub import folder as folder_module
from folio.hub.folder import ModelFolder, strict_json

TENSORS = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "b.weight": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "c.bias": torch.ones(5, dtype=torch.bfloat16),
    "d.none": torch.empty(0, 3),
    "e.one": torch.tensor(7, dtype=torch.int64),
}


@pytest.fixture
def one(tmp_path):
    """A folder with one file of weights."""
    save_file(TENSORS, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    return tmp_path


@pytest.fixture
def sharded(tmp_path):
    """The same in two shards and an index."""
    names = list(TENSORS)
    places = {}
    for number, part in enumerate((names[:2], names[2:]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: TENSORS[name] for name in part}, tmp_path / shard)
        places |= dict.fromkeys(part, shard)
    write_index(tmp_path, places)
    return tmp_path


def write_index(path, places) -> None:
    text = json.dumps({"metadata": {}, "weight_map": places})
    (path / "model.safetensors.index.json").write_text(text)


def read_index(path) -> dict:
    return json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]


def read_all(path) -> dict[str, torch.Tensor]:
    weights = ModelFolder(path).weights()
    return {name: weights.get(name) for name in weights.places}


def refused(path, message: str) -> str:
    """The weights of `path` are refused with one line that says `message`."""
    with pytest.raises(UserError, match=message) as caught:
        read_all(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("kind", ["one", "sharded"])
def test_tensors_come_as_they_are(kind, request):
    weights = ModelFolder(request.getfixturevalue(kind)).weights()
    assert set(weights.keys()) == set(TENSORS)
    for name, tensor in TENSORS.items():
        found = weights.get(name)
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)
    assert weights.parameters == 12 + 6 + 5 + 0 + 1
    assert weights.dtype == torch.float32
    assert all(re.fullmatch("[0-9a-f]{64}", d) for d in weights.digests().values())
    with pytest.raises(UserError, match="no tensor 'z'"):
        weights.get("z")


# which file


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        ".safetensors",
        ".hidden.safetensors",
        "x.bin",
        "x",
        "",
        3,
        None,
        "x.safetensors\n",
        "x\0.safetensors",
        "é.safetensors",
        "~.safetensors",
    ],
)
def test_a_shard_is_a_plain_file_name(sharded, shard):
    outside = sharded.parent / "x.safetensors"
    save_file(TENSORS, outside)
    write_index(sharded, read_index(sharded) | {"a.weight": shard})
    refused(sharded, "no plain file name")
    outside.unlink()


def test_a_missing_shard_is_named(sharded):
    write_index(sharded, read_index(sharded) | {"a.weight": "more.safetensors"})
    refused(sharded, r"names 'more\.safetensors', which is not there")


def test_an_index_must_say_what_shards_have(sharded):
    places = read_index(sharded)
    first, second = places["a.weight"], places["c.bias"]
    write_index(sharded, places | {"z": first})
    refused(sharded, "lacks tensor 'z'")
    write_index(sharded, {n: p for n, p in places.items() if n != "b.weight"})
    refused(sharded, "has tensor 'b.weight', which the index says it does not have")
    write_index(sharded, places | {"a.weight": second})
    refused(sharded, "tensor 'a.weight'")
    save_file(TENSORS, sharded / second)
    write_index(sharded, places)
    refused(sharded, "'a.weight' is in model-00001-of-00002.safetensors, too")
    write_index(sharded, {})
    refused(sharded, "no table 'weight_map'")


def test_a_link_out_of_the_folder_is_refused(one, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model.safetensors"
    (one / "model.safetensors").rename(elsewhere)
    (one / "model.safetensors").symlink_to(elsewhere)
    refused(one, "outside of the folder")
    (one / "model.safetensors").unlink()
    (one / "model.safetensors").symlink_to("model.safetensors")
    refused(one, "can't be read")
    (one / "config.json").unlink()
    (one / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="outside of the folder"):
        ModelFolder(one).read_json("config.json")


def test_links_inside_the_folder_and_into_its_cache_are_followed(one):
    (one / "model.safetensors").rename(one / "weights.bin")
    (one / "model.safetensors").symlink_to("weights.bin")
    assert set(ModelFolder(one).weights().keys()) == set(TENSORS)
    cache = one / "models--a--b"
    snapshot = cache / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (one / "weights.bin").rename(cache / "blobs" / "abcd")
    (snapshot / "model.safetensors").symlink_to("../../blobs/abcd")
    assert set(ModelFolder(snapshot).weights().keys()) == set(TENSORS)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("../../secret")
    (cache / "secret").write_bytes(b"x")
    refused(snapshot, "outside of the folder")


def test_only_regular_files(one):
    (one / "model.safetensors").unlink()
    os.mkfifo(one / "model.safetensors")
    refused(one, "not a regular file")
    (one / "model.safetensors").unlink()
    (one / "model.safetensors").mkdir()
    refused(one, "not a regular file|can't be read")
    (one / "config.json").unlink()
    (one / "config.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="outside"):
        ModelFolder(one).read_json("config.json")


def test_a_pickle_is_not_read(one):
    (one / "model.safetensors").rename(one / "pytorch_model.bin")
    refused(one, r"'pytorch_model\.bin', a pickle.*convert it")
    (one / "pytorch_model.bin").unlink()
    refused(one, r"has no model\.safetensors")
    with pytest.raises(UserError, match="not a folder"):
        ModelFolder(one / "config.json")


# JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' comes twice"),
        ('{"x": {"a": 1, "b": 0, "a": 1}}', "'a' comes twice"),
        ("[1]", "expected a JSON object"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": ' + "1" * 5000 + "}", "number 1{20}... is too large"),
        ('{"a": ' + "[" * 100_000, "not valid JSON"),
        ("{" * 100_000, "not valid JSON"),
        ("", "not valid JSON"),
        ('{"a": "\\ud800"', "not valid JSON"),
    ],
)
def test_json_is_read_strictly(text, message):
    with pytest.raises(UserError, match=message) as caught:
        strict_json(text, "file")
    assert len(str(caught.value)) < 300


def test_json_may_not_be_huge(one, monkeypatch):
    monkeypatch.setattr(folder_module, "MOST_VALUES", 100)
    (one / "config.json").write_text(json.dumps({"a": [[]] * 100}))
    with pytest.raises(UserError, match="more than 100 values"):
        ModelFolder(one).read_json("config.json")
    monkeypatch.setattr(folder_module, "LARGEST_OTHER", 50)
    (one / "config.json").write_bytes(b" " * 51)
    with pytest.raises(UserError, match="51 bytes are more"):
        ModelFolder(one).read_text("config.json", folder_module.LARGEST_OTHER)
    (one / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="not UTF-8 at byte 7"):
        ModelFolder(one).read_json("config.json")


# safetensors


def rewrite(path, change) -> None:
    """Let `change` alter the header of model.safetensors; the data stay."""
    file = path / "model.safetensors"
    raw = file.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    changed = change(header)
    text = changed if isinstance(changed, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def with_entry(name: str, **values):
    return lambda header: header[name].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_entry("a.weight", shape=[3, 5]), "48 bytes can't be"),
        (with_entry("a.weight", shape=[2**40, 2**40]), "can't be"),
        (with_entry("a.weight", shape=[2**63, 2]), "whole numbers"),
        (with_entry("a.weight", shape=[2**47] * 6 + [0]), "can't be"),
        (with_entry("a.weight", shape=[-3, -4]), "whole numbers"),
        (with_entry("a.weight", shape=[3.0, 4]), "whole numbers"),
        (with_entry("a.weight", shape=[True, 12]), "whole numbers"),
        (with_entry("a.weight", shape="34"), "whole numbers"),
        (with_entry("a.weight", shape=[1] * 9), "9 dimensions"),
        (with_entry("a.weight", dtype="F8_E4M3"), "dtype 'F8_E4M3'"),
        (with_entry("a.weight", dtype=["F32"]), "dtype"),
        (with_entry("a.weight", data_offsets=[0]), "1 offsets"),
        (with_entry("a.weight", data_offsets=[48, 0]), "can't be"),
        (with_entry("a.weight", data_offsets=[10**9, 10**9 + 48]), "hole"),
        (with_entry("a.weight", extra=1), "dtype, shape and data_offsets only"),
        (lambda h: h.update(z=h["a.weight"]), "overlaps"),
        (lambda h: h.pop("a.weight") and None, "hole"),
        (lambda h: h.update(z=3), "must have dtype"),
        (lambda h: h.update(__metadata__={"a": 1}), "__metadata__"),
        (lambda h: h.update(__metadata__=[]), "__metadata__"),
        (lambda h: b"[]", "expected a JSON object"),
        (lambda h: b"\xff\xff", "not UTF-8"),
        (lambda h: b"{" * 60_000, "not valid JSON"),
        (lambda h: json.dumps(h).replace("b.weight", "a.weight").encode(), "twice"),
    ],
)
def test_a_header_that_lies_is_refused(one, change, message):
    rewrite(one, change)
    refused(one, message)


def test_the_data_must_be_covered_to_the_last_byte(one):
    file = one / "model.safetensors"
    raw = file.read_bytes()
    for data, message in [
        (raw + b"x", "bytes expected"),
        (raw[:-1], "bytes expected"),
        (raw[:60], "its header is"),
        (raw[:5], "its header is"),
        (b"", "its header is"),
        (struct.pack("<Q", 2**63) + raw[8:], "its header is"),
        (struct.pack("<Q", len(raw) - 8) + raw[8:], "not UTF-8|not valid JSON"),
    ]:
        file.write_bytes(data)
        refused(one, message)


def test_a_sparse_file_of_a_terabyte_takes_no_memory(one):
    """It is not read before its shapes are compared with the configuration."""
    entry = {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]}
    text = json.dumps({"a": entry}).encode()
    with open(one / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        try:
            file.truncate(8 + len(text) + (1 << 40))
        except OSError:
            pytest.skip("this file system has no files so large")
    assert ModelFolder(one).weights().parameters == 1 << 40


def test_thousands_of_mutants_are_read_equal_or_refused(one):
    """Bytes of header and length are changed, cut out, doubled or exchanged."""
    file = one / "model.safetensors"
    raw = file.read_bytes()
    head = 8 + struct.unpack("<Q", raw[:8])[0]
    rng = random.Random(3)
    refusals, read = 0, 0
    for _ in range(1200):
        data = bytearray(raw)
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.randrange(head) if rng.random() < 0.95 else 0
            kind = rng.randrange(4)
            if kind == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[place : place + rng.randrange(1, 30)]
            elif kind == 2:
                data[place:place] = data[place : place + rng.randrange(1, 30)]
            else:
                data[place : place + 1] = rng.choice((b"9", b'"', b"[", b"-", b"\0"))
        file.write_bytes(data)
        try:
            found = read_all(one)
        except UserError as error:
            refusals += "\n" not in str(error)
            continue
        # A name, or a type of the same width, may have changed: bytes may not have.
        sizes = sorted(t.nbytes for t in found.values())
        assert sum(sizes) == sum(t.nbytes for t in TENSORS.values())
        read += 1
    assert refusals + read == 1200
    assert refusals > 800
