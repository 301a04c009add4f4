"""char, byte, word_bpe and wordpiece: what is special about each."""

import pytest

from folio.config import UserError
from folio.text import (
    ByteTokenizer,
    CharTokenizer,
    WordBPETokenizer,
    WordPieceTokenizer,
    train_bpe,
)
from folio.text.wordpiece import learn_pieces, learn_pieces_heap, spell


def test_characters_get_their_ids_in_sorted_order():
    tokenizer = CharTokenizer.train(["banana", "Ça\n"])
    assert tokenizer.characters == "\nabnÇ"
    assert tokenizer.encode("\nab") == [0, 1, 2]
    assert tokenizer.end_of_text == 5
    assert CharTokenizer.train("banana").characters == "abn"


def test_an_unknown_character_is_named_with_its_place():
    tokenizer = CharTokenizer.train(["hello"])
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\) at offset 2 is not among"):
        tokenizer.encode("heé")
    with pytest.raises(UserError, match="offset 6"):
        list(tokenizer.encode_iterable(["hell", "loé"]))
    with pytest.raises(UserError, match="empty"):
        CharTokenizer.train(["", ""])


def test_a_shuffled_alphabet_is_refused(tmp_path):
    data = CharTokenizer.train(["ab"])._to_json()
    data["model"]["vocab"].update(a=1, b=0)
    with pytest.raises(UserError, match="sorted"):
        CharTokenizer._from_json(data)


def test_bytes_are_their_ids():
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("Aé") == [65, 0xC3, 0xA9]
    assert tokenizer.decode([0xC3]) == "\ufffd"
    assert tokenizer.decode_bytes([0xC3]) == b"\xc3"
    assert tokenizer.vocab_size == 256 + 7


# word_bpe


def test_train_bpe_on_the_papers_words():
    text = "low " * 5 + "lower " * 2 + "newest " * 6 + "widest " * 3
    merges, vocab = train_bpe(text, 10)
    # Counts: es, st, t</w> 9 each, so t</w> is first by its bytes, then s+t</w>.
    assert merges[:3] == [("t", "</w>"), ("s", "t</w>"), ("e", "st</w>")]
    assert ("lo", "w") in merges or ("l", "ow") in merges
    assert len(vocab) == 11 + len(merges)
    assert list(vocab.values()) == list(range(len(vocab)))
    assert vocab["newest</w>"] > vocab["est</w>"] > vocab["w"]


def test_train_bpe_ends_when_there_is_nothing_left():
    merges, vocab = train_bpe("ab ab", 100)
    assert merges == [("b", "</w>"), ("a", "b</w>")]
    assert "ab</w>" in vocab
    assert train_bpe("", 3) == ([], {})


def test_words_learn_one_token_each():
    text = "the old man and the old sea and the end of the day " * 20
    tokenizer = WordBPETokenizer.train([text], vocab_size=400)
    ids = tokenizer.encode("the old sea ")
    assert [tokenizer.token_bytes(i) for i in ids] == [b"the ", b"old ", b"sea "]
    ids = tokenizer.encode("the\nsea")  # ended by a newline: spelled without </w>
    assert tokenizer.decode(ids) == "the\nsea"
    assert tokenizer.encode("字")[:3] == list("字".encode())  # never seen: its bytes


def test_the_mark_itself_can_be_written():
    text = "a</w> b</w>c </w> </w></w> " * 10
    tokenizer = WordBPETokenizer.train([text], vocab_size=300)
    pieces = [left + right for left, right in tokenizer.merges]
    assert len(set(pieces)) == len(pieces)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.token_bytes(256) == b" "


def test_vocabularies_too_small_for_the_alphabet():
    with pytest.raises(UserError, match="at least"):
        WordBPETokenizer.train(["abc"], vocab_size=256)
    with pytest.raises(UserError, match="at least"):
        WordPieceTokenizer.train(["abc"], vocab_size=256)


# wordpiece


def pieces_of(tokenizer, text: str) -> list[bytes]:
    return [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]


def test_longest_match_first():
    pieces = [(c, inside) for c in "abc" for inside in (False, True)]
    pieces += [("ab", False), ("abc", False), ("bc", True), ("abca", False)]
    tokenizer = WordPieceTokenizer(pieces)
    assert pieces_of(tokenizer, "abcabc") == [b"abca", b"bc"]
    assert pieces_of(tokenizer, "ab") == [b"ab"]
    assert pieces_of(tokenizer, "cab") == [b"c", b"a", b"b"]  # "ab" begins words only
    assert pieces_of(tokenizer, "abé") == [b"ab", b"\xc3", b"\xa9"]


def test_pieces_at_the_start_and_inside_are_different():
    tokenizer = WordPieceTokenizer([("##", False), ("#", False), ("#", True)])
    assert len(set(tokenizer.encode("##")) | set(tokenizer.encode("#"))) == 2
    assert pieces_of(tokenizer, "###") == [b"##", b"#"]


def test_ratio_and_gain_choose_differently():
    # 90 · 1000 / (100 · 100) = 9 times chance, and 3 · 1000 / (3 · 3) = 333 times.
    words = {spell("ab"): 90, spell("ax"): 10, spell("yb"): 10, spell("qz"): 3}
    words[spell("cccccccc")] = 97
    assert learn_pieces(words, 1, "ratio") == [("qz", False)]
    assert learn_pieces({w: n for w, n in words.items() if "c" not in dict(w)}, 1) == [
        ("ab", False)
    ]


def test_readable_and_heap_learn_the_same_pieces():
    import random

    rng = random.Random(41)
    for trial in range(300):
        letters = "ab" if trial % 2 else "abcde"
        words = {
            spell("".join(rng.choices(letters, k=rng.randrange(1, 10)))): rng.randrange(
                1, 9
            )
            for _ in range(rng.randrange(1, 12))
        }
        settings = rng.randrange(30), rng.choice(["gain", "ratio"]), rng.randrange(1, 6)
        assert learn_pieces_heap(words, *settings) == learn_pieces(words, *settings)


@pytest.mark.parametrize("settings", [{"score": "likelihood"}, {"min_count": 0}])
def test_impossible_wordpiece_settings(settings):
    with pytest.raises(UserError, match=r"score|min_count"):
        WordPieceTokenizer.train(["abc"], vocab_size=300, **settings)
