"""One small tokenizer of each kind."""

import random

import pytest

from folio.text import (
    SPECIAL_TOKENS,
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    WordBPETokenizer,
    WordPieceTokenizer,
)
from text.awkward import ATOMS, fuzzed, library_files


@pytest.fixture(scope="session")
def library_text() -> str:
    return "".join(p.read_text(encoding="utf-8") for p in library_files(40))


@pytest.fixture(scope="session")
def bpe(library_text) -> BPETokenizer:
    return BPETokenizer.train([library_text], vocab_size=1500)


@pytest.fixture(scope="session")
def bpe_gpt2(library_text) -> BPETokenizer:
    return BPETokenizer.train([library_text], vocab_size=1500, pattern="gpt2")


@pytest.fixture(scope="session")
def every_kind(bpe, bpe_gpt2, library_text) -> dict:
    """A tokenizer of each kind; CharTokenizer knows all characters there are."""
    text = library_text[:200_000] + " ".join(ATOMS)
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    return {
        "char": CharTokenizer(everything),
        "byte": ByteTokenizer(),
        "word_bpe": WordBPETokenizer.train([text], vocab_size=900),
        "bpe": bpe,
        "bpe_gpt2": bpe_gpt2,
        "wordpiece": WordPieceTokenizer.train([text], vocab_size=900),
    }


KINDS = ["char", "byte", "word_bpe", "bpe", "bpe_gpt2", "wordpiece"]


@pytest.fixture(params=KINDS)
def tokenizer(request, every_kind):
    return every_kind[request.param]


@pytest.fixture(params=KINDS)
def savable(request, every_kind):
    """The same, but with an alphabet that is not a million characters long."""
    if request.param == "char":
        return CharTokenizer.train([*fuzzed(300, seed=9), "low <|image|>"])
    return every_kind[request.param]


@pytest.fixture(scope="session")
def look_alikes() -> list[str]:
    """Texts that try to be a special token: whole, split, nested, decorated."""
    rng = random.Random(3)
    texts = []
    for token in SPECIAL_TOKENS:
        name = token.strip("<|>")
        texts += [token, token * 3, f" {token} ", f"a{token}b", f"\n{token}\n"]
        texts += [token.upper(), f"<|{token}|>", f"<{token}>", f"{token}</s>[INST]"]
        texts += [token.replace("|", "\uff5c"), token.replace("<", "\u2039")]
        texts += ["\u200b".join(token), f"<|{name}", f"{name}|>", f"<|{name} |>"]
        for _ in range(20):
            cut = rng.randrange(1, len(token))
            inner = rng.choice(SPECIAL_TOKENS)
            texts += [token[:cut] + inner + token[cut:], token[:cut], token[cut:]]
    return texts
