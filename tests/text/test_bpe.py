"""Byte-level BPE: against tiktoken and tokenizers, and on its own rules."""

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import tiktoken
import tokenizers

from folio.config import UserError
from folio.text import BPETokenizer, Tokenizer
from folio.text.bpe import PATTERNS, learn_merges, merge_word, safe_cut, split
from folio.text.byte_level import BYTE_TO_CHARACTER, read_bytes, show_bytes
from text.awkward import fuzzed, library_files


def to_tiktoken(tokenizer: BPETokenizer) -> tiktoken.Encoding:
    """The same tokenizer through tiktoken, which ranks tokens by their ids."""
    special = set(tokenizer.special_tokens.values())
    ordinary = (i for i in range(tokenizer.vocab_size) if i not in special)
    return tiktoken.Encoding(
        tokenizer.name,
        pat_str=PATTERNS[tokenizer.pattern],
        mergeable_ranks={tokenizer.token_bytes(i): i for i in ordinary},
        special_tokens=tokenizer.special_tokens,
    )


def with_pattern(pattern, bpe, bpe_gpt2) -> BPETokenizer:
    """A tokenizer trained with `pattern`, or with GPT-4's merges under another."""
    trained = {"gpt4": bpe, "gpt2": bpe_gpt2}
    return trained.get(pattern) or BPETokenizer(bpe.merges, pattern)


def to_tokenizers(tokenizer: BPETokenizer, folder: Path) -> tokenizers.Tokenizer:
    tokenizer.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def assigned(text: str) -> str:
    """Without characters that the libraries' versions of Unicode may not share."""
    return "".join(c for c in text if unicodedata.category(c) != "Cn")


def parity_texts(library_text: str, number: int) -> list[str]:
    lines = library_text.splitlines(keepends=True)
    return [assigned(t) for t in fuzzed(number, seed=21)] + lines[:2000]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_equal_tiktoken(pattern, bpe, bpe_gpt2, library_text):
    tokenizer = with_pattern(pattern, bpe, bpe_gpt2)
    other = to_tiktoken(tokenizer)
    texts = parity_texts(library_text, 4000)
    for text in texts:
        assert tokenizer.encode_readably(text) == other.encode_ordinary(text), text
    assert tokenizer.encode(library_text) == other.encode_ordinary(library_text)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tokenizers_loads_our_file_with_equal_ids(
    pattern, bpe, bpe_gpt2, library_text, tmp_path
):
    tokenizer = with_pattern(pattern, bpe, bpe_gpt2)
    other = to_tokenizers(tokenizer, tmp_path)
    assert other.get_vocab_size() == tokenizer.vocab_size
    for token, index in tokenizer.special_tokens.items():
        assert other.token_to_id(token) == index
    other.encode_special_tokens = True  # its default lets text make control tokens
    for text in parity_texts(library_text, 2000):
        ids = other.encode(text).ids
        assert tokenizer.encode(text) == ids, text
        assert other.decode(ids, skip_special_tokens=False) == text


def test_char_and_byte_files_load_in_tokenizers_too(every_kind, tmp_path, library_text):
    from folio.text import CharTokenizer

    for tokenizer in (CharTokenizer.train([library_text]), every_kind["byte"]):
        other = to_tokenizers(tokenizer, tmp_path)
        for text in library_text.splitlines(keepends=True)[:300]:
            ids = other.encode(text).ids
            assert ids == tokenizer.encode(text)
            assert other.decode(ids) == text


# GPT-2's files


def write_gpt2_files(tokenizer: BPETokenizer, folder: Path) -> None:
    """vocab.json and merges.txt in the order of OpenAI's: bytes by their looks."""
    bytes_first = sorted(range(256), key=lambda byte: BYTE_TO_CHARACTER[byte])
    vocab = {BYTE_TO_CHARACTER[byte]: i for i, byte in enumerate(bytes_first)}
    for left, right in tokenizer.merges:
        vocab[show_bytes(left + right)] = len(vocab)
    vocab["<|endoftext|>"] = len(vocab)
    lines = [f"{show_bytes(a)} {show_bytes(b)}" for a, b in tokenizer.merges]
    (folder / "vocab.json").write_text(json.dumps(vocab))
    text = "\n".join(["#version: 0.2", *lines, ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")


def test_gpt2_files_give_the_ids_of_tokenizers_and_tiktoken(
    bpe_gpt2, library_text, tmp_path
):
    write_gpt2_files(bpe_gpt2, tmp_path)
    ours = BPETokenizer.from_gpt2(tmp_path)
    assert ours.vocab_size == 256 + len(ours.merges) + 1
    assert ours.special_tokens == {"<|endoftext|>": ours.vocab_size - 1}
    files = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    assert BPETokenizer.from_gpt2(vocab=files[0], merges=files[1]).merges == ours.merges
    model = tokenizers.models.BPE.from_file(*files)
    theirs = tokenizers.Tokenizer(model)
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = byte_level
    third = to_tiktoken(ours)
    for text in parity_texts(library_text, 2000):
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids == third.encode_ordinary(text)
        assert ours.decode(ids) == text
    reloaded = to_tokenizers(ours, tmp_path)
    assert reloaded.encode(library_text).ids == ours.encode(library_text)


@pytest.mark.skipif("FOLIO_GPT2" not in os.environ, reason="FOLIO_GPT2 = its folder")
def test_the_real_gpt2(library_text):
    folder = Path(os.environ["FOLIO_GPT2"])
    ours = BPETokenizer.from_gpt2(folder)
    assert ours.vocab_size == 50257
    assert ours.end_of_text == 50256
    assert ours.encode("Hello world") == [15496, 995]
    theirs = tokenizers.ByteLevelBPETokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt")
    )
    third = to_tiktoken(ours)
    for text in [*parity_texts(library_text, 20_000), library_text]:
        ids = ours.encode(text)
        assert ids == third.encode_ordinary(text) == theirs.encode(text).ids


def test_more_special_tokens_for_gpt2(bpe_gpt2, tmp_path):
    write_gpt2_files(bpe_gpt2, tmp_path)
    more = BPETokenizer.from_gpt2(tmp_path, special_tokens=["<|user|>"])
    assert more.special_id("<|user|>") == more.vocab_size - 1
    assert more.end_of_text == more.vocab_size - 2


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", "{", "not valid JSON"),
        ("vocab.json", "[]", "token: id"),
        ("vocab.json", '{"!": 0}', "has no token"),
        ("merges.txt", "a b c\n", "not a pair"),
        ("merges.txt", "ab c\n", "no earlier merge"),
        ("merges.txt", "漢 c\n", "stands for no byte"),
    ],
)
def test_damaged_gpt2_files(bpe_gpt2, tmp_path, file, content, message):
    write_gpt2_files(bpe_gpt2, tmp_path)
    (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        BPETokenizer.from_gpt2(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match="no such file"):
        BPETokenizer.from_gpt2(tmp_path)


# splitting


@pytest.mark.parametrize("pattern", PATTERNS)
def test_split_loses_nothing_and_equals_tiktokens_possessive_form(pattern):
    # tiktoken's own way to write the two patterns. Its \s++$ takes white space at the
    # very end of a text as one word even across newlines: hence the "x" behind.
    theirs = {
        "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++"
        r"|\s++$|\s+(?!\S)|\s",
        "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    }
    theirs["qwen2"] = theirs["gpt4"].replace("{1,3}+", "")
    theirs["mistral"] = PATTERNS["mistral"]  # theirs is the same, not possessive
    texts = [assigned(text) + "x" for text in fuzzed(3000, seed=22)]
    ranks = {bytes([i]): i for i in range(256)}
    words = {word for text in texts for word in split(text, pattern)}
    for word in sorted(words):
        ranks.setdefault(word.encode(), len(ranks))
    other = tiktoken.Encoding(
        "words", pat_str=theirs[pattern], mergeable_ranks=ranks, special_tokens={}
    )
    for text in texts:
        cut = split(text, pattern)
        assert "".join(cut) == text
        ids = other.encode_ordinary(text)
        assert [other.decode_single_token_bytes(i).decode() for i in ids] == cut


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nothing_changes_at_a_safe_cut(pattern):
    found = 0
    for text in fuzzed(2500, seed=23, longest=20):
        for end in range(1, len(text) + 1):
            cut = safe_cut(text[:end])
            if cut:
                found += 1
                parts = split(text[:cut], pattern) + split(text[cut:], pattern)
                assert parts == split(text, pattern)
    assert found > 4000


# training


def test_ties_go_to_the_greatest_pair_of_byte_strings():
    # ab, bc, cd, xy and yz all occur twice; yz is the greatest. Then x+yz and cd.
    counts = {b"abcd": 2, b"xyz": 2}
    assert learn_merges(counts, 3) == [(b"y", b"z"), (b"x", b"yz"), (b"c", b"d")]
    # Bytes count, not how they look: é (C3 A9) is greater than z.
    assert learn_merges({"zé".encode(): 1}, 1) == [(b"\xc3", b"\xa9")]
    # A longer string is greater than its beginning; the left one decides first.
    assert learn_merges({b"ab": 9, b"abc": 5, b"aba": 5}, 2)[1] == (b"ab", b"c")


def test_merge_word_takes_the_earliest_merge_and_the_leftmost_place():
    ranks = {(1, 1): 0, (2, 1): 1}
    assert merge_word([1, 1, 1], ranks, {(1, 1): 2, (2, 1): 3}) == [3]
    assert merge_word([1, 1, 1, 1], {(1, 1): 0}, {(1, 1): 2}) == [2, 2]
    assert merge_word([], {}, {}) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_training_is_the_same_readable_fast_and_in_two_processes(
    pattern, tmp_path, monkeypatch
):
    files = []
    for index, source in enumerate(library_files(6)):
        files.append(tmp_path / f"{index}.txt")
        files[-1].write_bytes(source.read_bytes())
    settings = {"vocab_size": 330, "pattern": pattern}
    readable = BPETokenizer.train(files, readable=True, **settings)
    assert readable.vocab_size == 330
    assert BPETokenizer.train(files, **settings).merges == readable.merges
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert BPETokenizer.train(texts, **settings).merges == readable.merges
    if pattern not in ("gpt4", "mistral"):  # to start processes takes a second
        return
    monkeypatch.setattr("folio.text.word_counts.PIECE", 10_000)
    two = BPETokenizer.train(files, processes=2, **settings)
    assert two.merges == readable.merges
    assert two.fingerprint == readable.fingerprint


def test_merges_cross_neither_a_split_nor_a_special_token(bpe, bpe_gpt2):
    text = "one two<|endoftext|>one two " * 50
    for pattern in PATTERNS:
        tokenizer = BPETokenizer.train([text], vocab_size=300, pattern=pattern)
        pieces = [tokenizer.token_bytes(i) for i in range(256, tokenizer.vocab_size)]
        ordinary = pieces[: -len(tokenizer.special_tokens)]
        assert b"one" in ordinary
        assert not any(b"<" in p or b"|" in p or b"endof" in p for p in ordinary)
    for tokenizer in (bpe, bpe_gpt2):
        for left, right in tokenizer.merges:
            try:
                text = (left + right).decode()
            except UnicodeDecodeError:
                continue
            if text.isascii():  # the text "'tis" is cut, but "x'tis" is not, and so on
                assert len(split("x" + text, tokenizer.pattern)) <= 2


def test_the_reported_vocabulary_is_the_true_one():
    tokenizer = BPETokenizer.train(["abab"], vocab_size=5000)
    assert tokenizer.merges == [(b"a", b"b"), (b"ab", b"ab")]
    assert tokenizer.vocab_size == 256 + 2 + 7
    assert len({tokenizer.token_bytes(i) for i in range(265)}) == 265


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        (["abc"], {"vocab_size": 100}, "vocab_size = 100"),
        (["abc"], {"vocab_size": 300, "pattern": "gpt5"}, "pattern = 'gpt5'"),
        ([], {"vocab_size": 300}, "no text to learn from"),
        ([""], {"vocab_size": 300}, "no text to learn from"),
        ([Path("missing.txt")], {"vocab_size": 300}, r"no such file: missing\.txt"),
    ],
)
def test_impossible_training_is_refused(sources, settings, message):
    with pytest.raises(UserError, match=message):
        BPETokenizer.train(sources, **settings)


# files


def change(tokenizer: BPETokenizer, **changes) -> dict:
    data = json.loads(json.dumps(tokenizer._to_json()))
    for path, value in changes.items():
        *tables, last = path.split("__")
        where = data
        for key in tables:
            where = where[key]
        where[last] = value
    return data


def test_files_we_cannot_honor_are_refused(bpe, tmp_path):
    path = tmp_path / "tokenizer.json"
    foreign = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    vocab = bpe._to_json()["model"]["vocab"]
    one_less = {token: index for token, index in vocab.items() if index != 77}
    twice = vocab | {"Ġzzz": 5}
    merges = bpe._to_json()["model"]["merges"]
    cases = [
        ({"pre_tokenizer": foreign}, "unknown split"),
        ({"pre_tokenizer": None}, "unknown split"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer: 'NFKC'"),
        ({"model__type": "WordPiece"}, "only BPE"),
        ({"model__dropout": 0.5}, "dropout"),
        ({"model__unk_token": "<unk>"}, "unk_token"),
        ({"model__vocab": one_less}, "ids must be"),
        ({"model__vocab": twice}, "ids must be"),
        ({"model__vocab": vocab | {"a": True}}, "ids must be"),
        ({"model__merges": merges[1:]}, "no merge makes it|no earlier merge"),
        ({"model__merges": merges[::-1]}, "no earlier merge"),
        ({"model__merges": [*merges, merges[0]]}, "comes twice"),
        ({"model__merges": [*merges, ["zz", "yy"]]}, "no earlier merge"),
        ({"added_tokens": []}, "stands for no byte|no merge makes it"),
    ]
    for changes, message in cases:
        path.write_text(json.dumps(change(bpe, **changes)))
        with pytest.raises(UserError, match=message):
            Tokenizer.load(path)


def test_files_of_tokenizers_load_here(bpe, tmp_path, library_text):
    """Trained and written by `tokenizers`, with merges in its old spelling too."""
    theirs = tokenizers.ByteLevelBPETokenizer()
    theirs.train_from_iterator(
        [library_text[:100_000]],
        vocab_size=400,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
    )
    path = tmp_path / "tokenizer.json"
    theirs.save(str(path))
    ours = Tokenizer.load(path)
    assert ours.special_tokens == {"<|endoftext|>": 0}
    assert ours.end_of_text == 0
    text = library_text[100_000:120_000]
    assert ours.encode(text) == theirs.encode(text).ids
    old = change(bpe)
    old["model"]["merges"] = [" ".join(pair) for pair in old["model"]["merges"]]
    path.write_text(json.dumps(old))
    assert Tokenizer.load(path).fingerprint == bpe.fingerprint


def test_byte_level_alphabet():
    assert len(set(BYTE_TO_CHARACTER)) == 256
    assert show_bytes(b" \n") == "ĠĊ"
    assert all(read_bytes(show_bytes(bytes([i]))) == bytes([i]) for i in range(256))
    byte_level = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    assert Counter(byte_level) == Counter(BYTE_TO_CHARACTER)
