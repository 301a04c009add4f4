"""Tokenizers of other families, beside the library that they are written for."""

import json
import random
import unicodedata
from functools import cache

import pytest
import tokenizers

from folio.config import UserError
from folio.text import ChatTemplate, Tokenizer
from text.awkward import fuzzed, library_files
from text.foreign import FAMILIES
from text.test_tokenizer import mutate

SPACED = ["", " ", "  ", " a", "  a b ", "a  ", "\n a", "▁", "▁a ▁ b", "a▁b", "    x"]
COMPOSED = ["e\u0301", "क\u093c!", "\u0958!", "\u212b", "1\u0338", "=\u0338 a"]
COMPOSED += ["\u1100\u1161"]


@cache
def pair(family: str) -> tuple[tokenizers.Tokenizer, Tokenizer]:
    theirs = FAMILIES[family]()
    ours = Tokenizer.parse(json.loads(theirs.to_str()), family)
    theirs.encode_special_tokens = True  # its default lets text make control tokens
    return theirs, ours


@pytest.fixture(params=FAMILIES)
def both(request):
    return pair(request.param)


@cache
def texts(number: int = 1500) -> list[str]:
    """Without characters that the libraries' versions of Unicode may not share."""
    lines = library_files(3)[-1].read_text(encoding="utf-8").splitlines(keepends=True)
    found = [*SPACED, *COMPOSED, *fuzzed(number, seed=51), *lines[:300], "".join(lines)]
    found += [a + b for a, b in zip(COMPOSED, SPACED, strict=False)]
    found += [
        "camelCaseWORDSAndMore",
        "one/two//\n",
        " zebra returx returx.",
        "|||IP|||",
    ]
    return ["".join(c for c in t if unicodedata.category(c) != "Cn") for t in found]


def without_start(theirs: tokenizers.Tokenizer, text: str) -> list[int]:
    return theirs.encode(text, add_special_tokens=False).ids


def test_ids_equal(both):
    theirs, ours = both
    assert ours.vocab_size == theirs.get_vocab_size()
    for text in texts():
        assert ours.encode(text) == without_start(theirs, text), text


def test_prompts_begin_as_theirs_do(both):
    theirs, ours = both
    for text in texts()[:200]:
        if text:
            assert ours.prompt_ids(text) == theirs.encode(text).ids


def test_decoded_text_is_equal_and_streams(both):
    theirs, ours = both
    for text in texts():
        ids = ours.encode(text)
        decoded = ours.decode(ids)
        assert decoded == theirs.decode(ids, skip_special_tokens=False), text
        decoder = ours.stream_decoder()
        assert "".join(map(decoder.push, ids)) + decoder.flush() == decoded
        same = unicodedata.normalize("NFC", text) if ours.name == "bpe" else text
        assert decoded in (text, same) or "▁" in text or text.startswith(" ")


def test_a_stream_that_continues_keeps_its_first_space():
    _, ours = pair("llama2")
    ids = ours.encode("one two")
    text, decoder = "", ours.stream_decoder(continued=True)
    for index in ids:
        text += decoder.push(index)
    assert text == " one two"
    assert ours.decode(ids) == "one two"


def test_random_ids_decode_as_theirs(both):
    theirs, ours = both
    rng = random.Random(6)
    for _ in range(300):
        ids = [rng.randrange(ours.vocab_size) for _ in range(rng.randrange(1, 12))]
        if "\ufffd" in (decoded := ours.decode(ids)):
            continue  # half characters: how many marks they give is anyone's choice
        assert decoded == theirs.decode(ids, skip_special_tokens=False)
        kept = ours.decode(ids, special=False)
        assert kept == theirs.decode(ids, skip_special_tokens=True)
        decoder = ours.stream_decoder(special=False)
        assert "".join(map(decoder.push, ids)) + decoder.flush() == kept


def test_text_never_becomes_a_control_token(both):
    _, ours = both
    control = set(ours.special_tokens.values())
    names = list(ours.special_tokens)
    rng = random.Random(8)
    tries = [*names, "".join(names), *fuzzed(200, seed=52)]
    for name in names:
        for _ in range(15):
            cut = rng.randrange(len(name) + 1)
            tries.append(
                name[:cut] + rng.choice([*names, " ", "\u200b", "x"]) + name[cut:]
            )
    for text in tries:
        for encode in (ours.encode, ours.encode_inside):
            ids = encode(text)
            assert not control & set(ids), text
        if "▁" not in text:
            same = unicodedata.normalize("NFC", text)
            decoded = ours.decode(ours.encode(text))
            assert decoded in (text, same, text.removeprefix(" "))


def test_our_file_reads_back_the_same_here_and_there(both, tmp_path):
    theirs, ours = both
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == ours.fingerprint
    assert again.extras == ours.extras
    there = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    there.encode_special_tokens = True
    for text in texts()[:600]:
        ids = theirs.encode(text).ids
        assert there.encode(text).ids == ids
        assert again.encode(text) == ours.encode(text)
        assert there.decode(ids) == theirs.decode(ids)


def test_encode_iterable_equals_encode(both, monkeypatch):
    _, ours = both
    monkeypatch.setattr("folio.text.tokenizer.BUFFER", 12)
    rng = random.Random(7)
    for text in [*fuzzed(700, seed=53, longest=60), *texts()[:80]]:
        pieces, rest = [], text
        while rest:
            size = rng.randrange(0, 12)
            pieces.append(rest[:size])
            rest = rest[size:]
        assert list(ours.encode_iterable(pieces)) == ours.encode(text), text


def test_long_texts_are_cut_at_all(both):
    """Else a stream of text would be held in memory whole."""
    _, ours = both
    text = "The quick brown fox; it said: 'fine day'. 漢字, やあ 123\n" * 20
    assert ours._safe_cut(text) > len(text) - 60


def test_compiled_encoding_is_the_same(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr("folio.text.bpe.COMPILED_FROM", 1)
    for family in ("qwen", "olmo", "llama3", "nemo"):
        theirs = FAMILIES[family]()
        ours = Tokenizer.parse(json.loads(theirs.to_str()), family)
        for text in texts()[:400]:
            assert ours.encode(text) == ours.encode_readably(text)
        assert (ours._encoder is None) == (family in ("llama3", "nemo"))


def test_a_token_with_a_space_inside_is_made_from_whole_texts():
    data = json.loads(FAMILIES["llama2"]().to_str())
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    vocab["e▁"] = len(vocab)
    merges.insert(0, ["e", "▁"])
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    theirs.encode_special_tokens = True
    ours = Tokenizer.parse(data, "llama2")
    found = 0
    for text in texts()[:500]:
        ids = ours.encode(text)
        assert ids == without_start(theirs, text)
        found += vocab["e▁"] in ids
    assert found > 1


def test_both_spellings_of_merges():
    for family in ("qwen", "llama2"):
        data = json.loads(FAMILIES[family]().to_str())
        new = Tokenizer.parse(data, family).fingerprint
        merges = data["model"]["merges"]
        assert isinstance(merges[0], list)
        data["model"]["merges"] = [" ".join(one) for one in merges]
        assert Tokenizer.parse(data, family).fingerprint == new


def test_tokens_that_look_like_markup_are_control_tokens():
    _, ours = pair("qwen")
    assert "<think>" in ours.special_tokens
    thought = [ours.special_id("<think>"), *ours.encode("hm")]
    assert ours.decode(thought, special=False) == "<think>hm"  # but not hidden ones
    assert ours.decode([ours.special_id("<|im_end|>")], special=False) == ""
    assert ours.special_id("<think>") not in ours.encode("<think>")


def changed(family: str, **changes) -> dict:
    data = json.loads(FAMILIES[family]().to_str())
    for path, value in changes.items():
        *tables, last = path.split("__")
        where = data
        for key in tables:
            where = where[int(key) if key.isdigit() else key]
        where[last] = value
    return data


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama2", {"normalizer": {"type": "NFKC"}}, "not those of Llama 2"),
        ("llama2", {"normalizer": None}, "not those of Llama 2"),
        ("llama2", {"decoder": None}, "decoder"),
        ("gemma", {"decoder": {"type": "ByteLevel"}}, "decoder"),
        ("mistral", {"pre_tokenizer__split": True}, "not those of Llama 2"),
        ("mistral", {"pre_tokenizer__replacement": "_"}, "not those of Llama 2"),
        ("mistral", {"model__ignore_merges": True}, "ignore_merges"),
        ("mistral", {"model__dropout": 0.1}, "dropout"),
        ("mistral", {"model__merges": [["a"]]}, "not a pair"),
        ("mistral", {"model__merges": [["a", "b"], ["zz", "q"]]}, "in the vocabulary"),
        ("gemma", {"added_tokens__5__normalized": True}, "is normalized"),
        ("olmo", {"added_tokens__3__lstrip": True}, "lstrip"),
        ("olmo", {"added_tokens__3__single_word": True}, "single_word"),
        ("olmo", {"added_tokens__3__special": "yes"}, "flags"),
        ("qwen", {"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ("qwen", {"model__ignore_merges": 1}, "ignore_merges"),
        ("llama3", {"post_processor": {"type": "BertProcessing"}}, "Bert"),
        (
            "nemo",
            {
                "post_processor__single": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "</s>", "type_id": 0}},
                ]
            },
            "behind a text",
        ),
        (
            "nemo",
            {
                "post_processor__single": [
                    {"SpecialToken": {"id": "<z>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ]
            },
            "'<z>' has a role",
        ),
    ],
)
def test_what_a_file_asks_and_we_cannot_is_refused_by_name(family, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.parse(changed(family, **changes), "tokenizer.json")
    assert "\n" not in str(caught.value)


def test_mutated_files_load_sound_or_not_at_all():
    rng = random.Random(12)
    messages, loaded = [], 0
    for family in FAMILIES:
        text = FAMILIES[family]().to_str()
        for _ in range(60):
            data = json.loads(text)
            for _ in range(rng.choice((1, 1, 3))):
                mutate(data, rng)
            try:
                ours = Tokenizer.parse(data, "file")
            except UserError as error:
                messages.append(str(error))
                continue
            loaded += 1
            ids = ours.encode("low hello <s></s><|endoftext|> 漢")
            assert not set(ids) & set(ours.special_tokens.values())
            assert "hello" in ours.decode(ids)
    assert len(messages) > 150
    assert loaded > 30
    assert all("\n" not in message for message in messages)


def test_bytes_are_needed():
    data = changed("llama2")
    data["model"]["vocab"]["<0xZZ>"] = data["model"]["vocab"].pop("<0x41>")
    with pytest.raises(UserError, match="<0x41> is missing"):
        Tokenizer.parse(data, "x")


def test_merges_that_would_make_control_tokens_are_left_out():
    data = changed("gemma")
    vocab = data["model"]["vocab"]
    at = data["added_tokens"]
    vocab |= {"<b": len(vocab), "<b>": len(vocab) + 1}
    at.append({**at[-1], "content": "<b>", "id": vocab["<b>"], "special": False})
    data["model"]["merges"] += [["<", "b"], ["<b", ">"]]
    ours = Tokenizer.parse(data, "x")
    assert vocab["<b"] in ours.encode("a<b>")
    assert vocab["<b>"] not in ours.encode("a<b>")
    assert ours.decode(ours.encode("a<b>")) == "a<b>"


def test_conversations_of_a_tokenizer_without_a_template():
    _, ours = pair("llama2")
    with pytest.raises(UserError, match="no chat template"):
        ChatTemplate.of(ours)
