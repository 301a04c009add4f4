"""The fast ways give what the readable ones give, and long words take little time."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.text import BPETokenizer, bpe, fast_bpe, word_bpe
from folio.text.fast_bpe import COMPILED, learn_merges_heap, merge_long_word
from folio.text.word_bpe import learn_merges, merge_word
from text.awkward import fuzzed

compiled = pytest.importorskip("folio.text.compiled")
compiled_split = pytest.importorskip("folio.text.compiled_split")

WORDS = st.dictionaries(
    st.text("ab", min_size=1, max_size=12) | st.text("abcdé", min_size=1, max_size=9),
    st.integers(1, 3),
    min_size=1,
    max_size=12,
)
steady = settings(derandomize=True, deadline=None, max_examples=300)


@steady
@given(WORDS, st.integers(0, 40))
def test_three_trainers_agree(words, number):
    counts = {word.encode(): count for word, count in words.items()}
    merges = bpe.learn_merges(counts, number)
    assert learn_merges_heap(bpe.spell(counts), number) == merges
    assert compiled.learn_merges(counts, number) == merges
    made = [left + right for left, right in merges]
    assert len(set(made)) == len(made)  # no token is made twice


@steady
@given(WORDS, st.integers(0, 40))
def test_trainers_agree_on_characters(words, number):
    spelled = {word_bpe.spell(word + " "): count for word, count in words.items()}
    assert learn_merges_heap(spelled, number) == learn_merges(spelled, number)


@steady
@given(WORDS, st.text("abcd", max_size=40))
def test_three_ways_to_merge_a_word_agree(words, text):
    tokenizer = BPETokenizer(bpe.learn_merges({w.encode(): 1 for w in words}, 30))
    ids = [tokenizer._byte_ids[byte] for byte in text.encode()]
    expected = merge_word(ids, tokenizer._ranks, tokenizer._merged)
    assert merge_long_word(ids, tokenizer._ranks, tokenizer._merged) == expected


@pytest.mark.parametrize("pattern", COMPILED)
def test_compiled_split_equals_the_pattern(pattern, library_text):
    for text in [*fuzzed(20_000, seed=31), library_text[:300_000]]:
        assert compiled_split.split(text, pattern) == bpe.split(text, pattern), text


@pytest.mark.parametrize("pattern", COMPILED)
def test_compiled_counts_equal_the_readable_ones(pattern, library_text):
    texts = [*fuzzed(2000, seed=32), library_text, ""]
    assert compiled.count_split(texts, pattern) == bpe.count_split(texts, pattern)


def test_compiled_encoding_equals_the_readable_one(bpe, bpe_gpt2, library_text):
    rng = random.Random(33)
    long = ["".join(rng.choices("aeth ", k=rng.randrange(300))) for _ in range(200)]
    long += ["".join(rng.choices("aeth", k=rng.randrange(300))) for _ in range(200)]
    for tokenizer in (bpe, bpe_gpt2):
        encoder = compiled.Encoder(tokenizer)
        for text in ["", *fuzzed(1500, seed=33), *long, library_text[:200_000]]:
            assert encoder.encode(text) == tokenizer.encode_readably(text), text


def test_compiled_encoding_with_a_full_memory(bpe, library_text, monkeypatch):
    monkeypatch.setattr(compiled, "WORDS", 64)  # it starts anew again and again
    encoder = compiled.Encoder(bpe)
    assert encoder.encode(library_text) == bpe.encode_readably(library_text)


def test_compiled_encoding_takes_over_unnoticed(bpe, library_text, monkeypatch):
    monkeypatch.setattr("folio.text.bpe.COMPILED_FROM", 1000)
    tokenizer = BPETokenizer(bpe.merges, bpe.pattern)
    for start in range(0, 5000, 100):
        text = library_text[start : start + 100]
        assert tokenizer.encode(text) == bpe.encode_readably(text)
    assert isinstance(tokenizer._encoder, compiled.Encoder)
    texts = fuzzed(100, seed=34)
    expected = [bpe.encode_readably(text) for text in texts]
    assert tokenizer.encode_batch(texts, processes=2) == expected


def test_large_training_is_compiled_with_equal_results(library_text, monkeypatch):
    plain = BPETokenizer.train([library_text], vocab_size=600)
    monkeypatch.setattr("folio.text.bpe.COMPILED_FROM", 1000)
    called = []
    monkeypatch.setattr(
        compiled,
        "learn_merges",
        lambda *a, learn=compiled.learn_merges: called.append(a) or learn(*a),
    )
    assert BPETokenizer.train([library_text], vocab_size=600).merges == plain.merges
    assert BPETokenizer.train(iter([library_text]), 600).merges == plain.merges
    assert len(called) == 2


def test_without_numba_everything_works(library_text, monkeypatch):
    monkeypatch.setattr("folio.text.bpe.COMPILED_FROM", 1000)
    expected = BPETokenizer.train([library_text[:50_000]], vocab_size=400)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(fast_bpe, "compiled", fast_bpe.compiled.__wrapped__)
    assert fast_bpe.compiled() is None
    plain = BPETokenizer.train([library_text[:50_000]], vocab_size=400)
    assert plain.merges == expected.merges
    assert plain.encode(library_text) == expected.encode(library_text)
    assert plain._encoder is None


class Counted(dict):
    """Ranks that count how often they are asked: time without a clock."""

    asked = 0

    def __contains__(self, key):
        self.asked += 1
        return super().__contains__(key)


@pytest.mark.parametrize("unit", ["a", " ", "ab", "é"])
def test_a_long_word_takes_linear_work(unit):
    """Twice n² would be 16 times the work for 4 times the length."""
    tokenizer = BPETokenizer.train([unit * 512], vocab_size=280)
    work = []
    for size in (5000, 20_000):
        ids = [tokenizer._byte_ids[byte] for byte in (unit * size).encode()]
        ranks = Counted(tokenizer._ranks)
        merge_long_word(ids, ranks, tokenizer._merged)
        work.append(ranks.asked)
    assert work[1] < 4.2 * work[0]


@pytest.mark.parametrize("character", ["a", " ", "\n", "!", "1", "字", "😀", "'"])
def test_a_megabyte_of_one_character(character, bpe, bpe_gpt2, every_kind):
    size = 1_000_000 if character in "a " else 200_000  # of spaces and of letters
    text = character * (size // len(character.encode()))
    for tokenizer in (bpe, bpe_gpt2):
        encoder = compiled.Encoder(tokenizer)
        assert tokenizer.decode(encoder.encode(text)) == text
        few = text[:20_000]
        assert encoder.encode(few) == tokenizer.encode_readably(few)
    if character == "a":
        assert bpe.decode(bpe.encode_readably(text)) == text
        for name in ("word_bpe", "wordpiece", "byte", "char"):
            tokenizer, part = every_kind[name], text[:250_000]
            assert tokenizer.decode(tokenizer.encode(part)) == part


def test_training_on_a_megabyte_of_one_character():
    tokenizer = BPETokenizer.train(["a" * 1_000_000], vocab_size=290)
    assert [len(a + b) for a, b in tokenizer.merges[:4]] == [2, 4, 8, 16]
