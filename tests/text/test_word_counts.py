"""Files in pieces: equal counts however cut, and errors that name the place."""

import random
import tracemalloc
from collections import Counter
from functools import partial

import pytest

from folio.config import UserError
from folio.text.bpe import PATTERNS, count_split, safe_cut
from folio.text.parallel import parallel_map
from folio.text.tokenizer import SPECIAL_TOKENS
from folio.text.word_counts import as_source, count_words, read_text, segments
from text.awkward import fuzzed


def test_a_file_in_pieces_is_the_file(tmp_path):
    path = tmp_path / "text.txt"
    for text in ["", "é", "a\r\nb\rc\n", *fuzzed(50, seed=51)]:
        path.write_bytes(text.encode())
        for size in (1, 2, 3, 1000):
            pieces = list(read_text(path, size))
            assert "".join(pieces) == text
            assert all(pieces)


def test_a_string_may_name_a_file(tmp_path):
    path = tmp_path / "tale.txt"
    path.write_text("one two")
    assert as_source(str(path)) == path
    for text in ("one two", "one\ntwo.txt", "x" * 5000, "a\x00b", "", "see tale.txt"):
        assert as_source(text) == text
    assert as_source("漢" * 300) == "漢" * 300
    with pytest.raises(UserError, match=r"no such file: tall\.txt"):
        as_source("tall.txt")


@pytest.mark.parametrize(
    ("content", "place"), [(b"ab\xffcd", 2), (b"\xc3", 0), (b"abcd\xe2\x82", 4)]
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_invalid_utf8_is_named_with_its_place(tmp_path, content, place, size):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"text\.txt: not UTF-8 at byte {place} "):
        list(read_text(path, size))


def test_segments_are_cut_at_special_tokens_wherever_pieces_end():
    rng = random.Random(52)
    atoms = [*SPECIAL_TOKENS, "<|", "|>", "<", "end", "word", " ", "字", "\n", "a1"]
    for _ in range(300):
        text = "".join(rng.choices(atoms, k=30))
        plain = text
        for token in SPECIAL_TOKENS:
            plain = plain.replace(token, "\x00")
        pieces = [text[i : i + 5] for i in range(0, len(text), 5)]
        for pattern in PATTERNS:
            expected = count_split(plain.split("\x00"), pattern)
            found = segments(pieces, safe_cut, SPECIAL_TOKENS, size=8)
            assert count_split(list(found), pattern) == expected, text


def test_the_longest_of_overlapping_special_tokens_is_taken():
    assert list(segments(["a<x>b<x>y"], len, ["<x>", "<x>b"], 8)) == ["a", "y"]


def test_counts_do_not_depend_on_pieces_or_processes(tmp_path, monkeypatch):
    texts = fuzzed(60, seed=53, longest=200)
    files = []
    for index, text in enumerate(texts):
        files.append(tmp_path / f"{index}.txt")
        files[-1].write_bytes(text.encode())
    count = partial(count_split, pattern="gpt4")
    expected = Counter(count(texts))
    assert count_words(texts, count, safe_cut) == expected
    monkeypatch.setattr("folio.text.word_counts.PIECE", 64)
    assert count_words(files, count, safe_cut) == expected
    assert count_words(files, count, safe_cut, processes=2) == expected


def test_a_large_file_needs_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("folio.text.word_counts.PIECE", 1 << 13)
    path = tmp_path / "large.txt"
    path.write_text("one two three four five six seven\n" * 30_000)  # 1 MB
    tracemalloc.start()
    counts = count_words([path], partial(count_split, pattern="gpt4"), safe_cut)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts[b" seven"] == 30_000
    assert peak < 2**19


def fail_on_three(number: int) -> int:
    if number == 3:
        raise UserError("three")
    return number * number


def test_parallel_map_keeps_order_is_lazy_and_passes_errors():
    seen = []

    def numbers():
        for i in range(100):
            seen.append(i)
            yield i

    squares = parallel_map(abs, numbers(), 2)
    assert [next(squares) for _ in range(3)] == [0, 1, 2]
    assert len(seen) < 10
    squares.close()
    assert list(parallel_map(abs, range(-9, 0), 2)) == list(range(9, 0, -1))
    with pytest.raises(UserError, match="three"):
        list(parallel_map(fail_on_three, range(9), 2))
