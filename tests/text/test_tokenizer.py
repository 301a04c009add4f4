"""The promises that every tokenizer makes, tested on each of them."""

import json
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from folio.config import UserError
from folio.text import (
    END_OF_TEXT,
    SPECIAL_TOKENS,
    ByteTokenizer,
    CharTokenizer,
    SurrogateError,
    Tokenizer,
)
from text.awkward import fuzzed


def test_round_trip_of_every_unicode_character(tokenizer):
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(codes), 4096):
        text = "".join(map(chr, codes[start : start + 4096]))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_round_trip_of_awkward_texts(tokenizer):
    for text in ["", " ", "\n", *fuzzed(3000, seed=1)]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_ids_are_dense_and_end_with_the_special_tokens(tokenizer):
    assert list(tokenizer.special_tokens) == list(SPECIAL_TOKENS)
    first = tokenizer.vocab_size - len(SPECIAL_TOKENS)
    assert list(tokenizer.special_tokens.values()) == list(
        range(first, tokenizer.vocab_size)
    )
    assert tokenizer.end_of_text == tokenizer.special_id(END_OF_TEXT)
    assert tokenizer.token_bytes(tokenizer.end_of_text) == END_OF_TEXT.encode()


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", "\udc80x", "\ude00\ud83d"])
def test_lone_surrogate_is_a_typed_error(tokenizer, text):
    with pytest.raises(SurrogateError, match="lone surrogate") as caught:
        tokenizer.encode(text)
    assert isinstance(caught.value, UserError)
    assert caught.value.offset == next(
        i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"
    )
    with pytest.raises(SurrogateError) as caught:
        list(tokenizer.encode_iterable(["four", text]))
    assert caught.value.offset >= 4


def test_text_never_becomes_a_special_token(tokenizer, look_alikes):
    special = set(tokenizer.special_tokens.values())
    for text in look_alikes:
        ids = tokenizer.encode(text)
        assert not special & set(ids)
        assert tokenizer.decode(ids) == text
    together = "".join(look_alikes)
    assert not special & set(tokenizer.encode(together))
    assert not special & set(tokenizer.encode_iterable(look_alikes))


def test_decode_with_and_without_special_tokens(tokenizer):
    ids = [*tokenizer.encode("hi"), tokenizer.end_of_text, *tokenizer.encode("x")]
    assert tokenizer.decode(ids) == "hi<|endoftext|>x"
    assert tokenizer.decode(ids, special=False) == "hix"
    assert tokenizer.decode(np.array(ids)) == "hi<|endoftext|>x"
    decoder = tokenizer.stream_decoder(special=False)
    assert "".join(map(decoder.push, ids)) + decoder.flush() == "hix"


def test_unknown_ids_and_names_are_refused(tokenizer):
    for bad in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match=f"token id {bad}"):
            tokenizer.decode([0, bad])
    with pytest.raises(UserError, match="did you mean"):
        tokenizer.special_id("<|endoftxt|>")


def test_streamed_text_equals_decoded_text(tokenizer):
    rng = random.Random(5)
    for _ in range(400):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(rng.randrange(30))]
        decoder = tokenizer.stream_decoder()
        deltas = [decoder.push(i) for i in ids] + [decoder.flush()]
        assert "".join(deltas) == tokenizer.decode(ids)


def test_streaming_never_shows_half_a_character():
    tokenizer = ByteTokenizer()
    for text in fuzzed(300, seed=6):
        decoder = tokenizer.stream_decoder()
        deltas = [decoder.push(i) for i in tokenizer.encode(text)]
        assert "".join(deltas) == text
        assert "\ufffd" in text or not any("\ufffd" in delta for delta in deltas)
        assert decoder.flush() == ""
    decoder = tokenizer.stream_decoder()
    assert [decoder.push(i) for i in "é".encode()[:1]] == [""]
    assert decoder.flush() == "\ufffd"


def test_encode_iterable_equals_encode(tokenizer, monkeypatch):
    monkeypatch.setattr("folio.text.tokenizer.BUFFER", 16)  # many cuts
    rng = random.Random(7)
    for text in fuzzed(400, seed=7, longest=80):
        pieces, rest = [], text
        while rest:
            size = rng.randrange(0, 12)
            pieces.append(rest[:size])
            rest = rest[size:]
        assert list(tokenizer.encode_iterable(pieces)) == tokenizer.encode(text)


def test_encode_iterable_is_lazy_and_needs_little_memory(tokenizer):
    line = "def f(x): return '漢字' # twelve \n" * 30

    def pieces():
        for _ in range(3000):  # 3 MB
            yield line

    stream = tokenizer.encode_iterable(pieces())
    next(stream)
    for _ in range(20_000):
        next(stream)
    tracemalloc.start()
    for _ in range(200_000):
        next(stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_encode_batch_equals_encode(tokenizer, monkeypatch):
    monkeypatch.setattr("folio.text.tokenizer.GROUP", 500)
    texts = fuzzed(200, seed=8)
    expected = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    assert tokenizer.encode_batch(texts, processes=2) == expected
    assert tokenizer.encode_batch([], processes=2) == []


def test_a_tokenizer_travels_to_another_process(savable):
    text = "low the 字 "
    before = savable.encode(text)
    assert pickle.loads(pickle.dumps(savable)).encode(text) == before


def test_errors_in_other_processes_arrive(monkeypatch):
    monkeypatch.setattr("folio.text.tokenizer.GROUP", 1)
    with pytest.raises(SurrogateError) as caught:
        ByteTokenizer().encode_batch(["a", "b\ud800"], processes=2)
    assert caught.value.offset == 1


def test_save_and_load(savable, tmp_path):
    savable.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert type(loaded) is type(savable)
    assert loaded.name == savable.name
    assert loaded.fingerprint == savable.fingerprint
    assert loaded.special_tokens == savable.special_tokens
    assert loaded.vocab_size == savable.vocab_size
    for text in fuzzed(300, seed=9):
        assert loaded.encode(text) == savable.encode(text)


def test_fingerprints_differ_and_stay(every_kind):
    kinds = [tokenizer for name, tokenizer in every_kind.items() if name != "char"]
    assert len({tokenizer.fingerprint for tokenizer in kinds}) == len(kinds)
    # Pinned: shards remember it, so a change would make every shard foreign.
    small = CharTokenizer.train(["hello"])
    assert small.fingerprint.startswith("a2e29aeea2351374")
    assert ByteTokenizer().fingerprint.startswith("3da10f0e43bf4e8f")


def test_adding_special_tokens(savable):
    more = savable.with_special_tokens(["<|pad|>", "<|image|>"])
    assert more.vocab_size == savable.vocab_size + 1
    assert more.special_id("<|image|>") == savable.vocab_size
    assert more.special_id("<|pad|>") == savable.special_id("<|pad|>")
    assert more.fingerprint != savable.fingerprint
    assert more.encode("low <|image|>") == savable.encode("low <|image|>")
    with pytest.raises(UserError, match="image"):
        savable.special_id("<|image|>")


@pytest.mark.parametrize("special", [["<a>", "<a>"], [""], ["h"]])
def test_impossible_special_tokens_are_refused(special):
    with pytest.raises(UserError, match="special"):
        CharTokenizer.train(["hello"], special_tokens=special)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    ByteTokenizer().save(tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"tokenizer\.json: disk full"):
        CharTokenizer.train(["hello"]).save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_bytes() == before


def test_files_that_are_no_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match="no tokenizer at"):
        Tokenizer.load(tmp_path)
    for text in ("", "{", "[]", "{}", '{"model": 3}', '{"model": {}}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            Tokenizer.load(path)
    path.write_text('{"model": {"folio": {"kind": "bite"}}}')
    with pytest.raises(UserError, match="did you mean 'byte'"):
        Tokenizer.load(path)


def test_mutated_files_load_equal_or_not_at_all(every_kind, tmp_path):
    """A damaged file is refused by a UserError; none loads with broken ids."""
    rng = random.Random(11)
    path = tmp_path / "tokenizer.json"
    small = dict(every_kind, char=CharTokenizer.train(["hello world"]))
    messages = []
    for tokenizer in small.values():
        for _ in range(30):
            data = json.loads(json.dumps(tokenizer._to_json()))
            mutate(data, rng)
            path.write_text(json.dumps(data))
            try:
                loaded = Tokenizer.load(path)
            except UserError as error:
                messages.append(str(error))
                continue
            text = "low hello" if loaded.name != "char" else loaded.characters
            assert loaded.decode(loaded.encode(text)) == text
    assert len(messages) > 75
    assert all(str(path) in m and "\n" not in m for m in messages)


def mutate(data: dict, rng: random.Random) -> None:
    """Change, drop, double or exchange something somewhere."""
    where, path = data, []
    while isinstance(where, (dict, list)) and where:
        key = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
        path.append((where, key))
        where = where[key]
    parent, key = path[rng.randrange(len(path))] if rng.random() < 0.3 else path[-1]
    kind = rng.randrange(4)
    if kind == 0:
        del parent[key]
    elif kind == 1:
        parent[key] = rng.choice([None, -1, 3, "x", "é ", [], {}, True, 10**12, 1.5])
    elif kind == 2 and isinstance(parent, list):
        parent.insert(0, parent[key])
    else:
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        other = rng.choice(list(keys))
        parent[key], parent[other] = parent[other], parent[key]
