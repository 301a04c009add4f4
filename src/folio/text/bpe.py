"""Byte-level byte-pair encoding (GPT-2, Radford et al. 2019), the readable way.

Two ideas on top of word_bpe.py's algorithm:

1. Words are spelled as UTF-8 bytes. 256 symbols spell everything, so there is no
   unknown character, and no symbol for the end of a word is needed:
2. `split` cuts the text into words that keep their white space, by a fixed pattern.
   No token crosses a cut.

fast_bpe.py and compiled.py give equal results sooner; tests hold them to it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from folio.config import UserError
from folio.text import word_bpe
from folio.text.added_tokens import Extras, TextTokens, is_id
from folio.text.byte_level import show_bytes
from folio.text.tokenizer import SPECIAL_TOKENS, Tokenizer, to_bytes
from folio.text.word_bpe import CACHED_WORDS, LONG_WORD, merge_word

if TYPE_CHECKING:
    from folio.text.compiled import Encoder

# What GPT-2 (2019), GPT-4 (cl100k, 2023; Llama 3 too), Qwen (2 to 3) and Mistral
# (Nemo, 2024) call a word. All keep the space before a word with it, all but Mistral
# cut English contractions. The later ones also let any one character that is no letter
# lead a word ("\tdef", "(self") and take newlines by runs; GPT-4 takes digits by
# three, Qwen and Mistral singly. Mistral's cuts "camelCase", too, and keeps accents
# that are characters of their own with their letter.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "mistral": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
# Where all patterns cut, whatever stands around: behind a run of letters or digits,
# and between a symbol and a blank. Neither side looks across such a place. A mark such
# as U+0301 could belong to what stands before it.
SAFE_CUT = r"\p{L}(?=[^\p{L}\p{M}])|\p{N}(?=[^\p{N}\p{M}])|[^\s\p{L}\p{N}](?=[^\S\r\n])"
_LAST_SAFE_CUT = regex.compile(f"(?r){SAFE_CUT}")  # (?r) searches from the end

COMPILED_FROM = 1 << 22  # characters; for fewer, loading compiled code takes longer


def split(text: str, pattern: str = "gpt4") -> list[str]:
    """Cut `text` into words; joined, they are the text again.

    >>> split("I'll pay 1234 now", "gpt4")
    ['I', "'ll", ' pay', ' ', '123', '4', ' now']
    >>> split("I'll pay 1234 now", "gpt2")
    ['I', "'ll", ' pay', ' 1234', ' now']
    """
    return regex.findall(PATTERNS[pattern], text)


def safe_cut(text: str) -> int:
    """The last place p with split(text + more) == split(text[:p]) + split(rest).

    0 if there is none: the text is one unbroken run so far.

    >>> safe_cut("one two")
    3
    """
    match = _LAST_SAFE_CUT.search(text)
    return match.end() if match else 0


def count_split(texts: list[str], pattern: str) -> dict[bytes, int]:
    """How often each word of `texts` occurs.

    >>> count_split(["one two one two"], "gpt4")
    {b'one': 1, b' two': 2, b' one': 1}
    """
    words = Counter(word for text in texts for word in split(text, pattern))
    return {to_bytes(word): number for word, number in words.items()}


def learn_merges(
    word_counts: Mapping[bytes, int], num_merges: int
) -> list[tuple[bytes, bytes]]:
    """The classic algorithm over words that are spelled as single bytes.

    >>> learn_merges({b"low": 5, b"lower": 2, b"newer": 4}, 3)
    [(b'o', b'w'), (b'l', b'ow'), (b'e', b'r')]
    """
    return word_bpe.learn_merges(spell(word_counts), num_merges)


def spell(word_counts: Mapping[bytes, int]) -> dict[tuple[bytes, ...], int]:
    """Words as tuples of single bytes.

    >>> spell({b"low": 5})
    {(b'l', b'o', b'w'): 5}
    """
    single = [bytes([byte]) for byte in range(256)]
    return {
        tuple([single[byte] for byte in word]): count
        for word, count in word_counts.items()
    }


def _is_composed(character: str) -> bool:
    return unicodedata.is_normalized("NFC", character)


class BPETokenizer(Tokenizer):
    """Byte-level BPE. Trained here, the ids are: bytes, merges in order, specials.

    >>> tokenizer = BPETokenizer.train(["the cat, the hat"], vocab_size=267)
    >>> [tokenizer.token_bytes(i) for i in tokenizer.encode("the hat")]
    [b'the', b' ', b'hat']
    """

    name = "bpe"

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]],
        pattern: str = "gpt4",
        special_tokens: Sequence[str] | Mapping[str, int] = SPECIAL_TOKENS,
        vocab: Mapping[bytes, int] | None = None,
        *,
        text_tokens: Mapping[str, int] | None = None,
        nfc: bool = False,
        whole_words: bool = False,
        extras: Extras | None = None,
    ):
        """`vocab` gives the ids of ordinary tokens where they are not in that order.

        What imported tokenizers have besides: `text_tokens` are found before the text
        is split (see added_tokens.py); with `nfc`, text is first put into Unicode's
        composed form, and comes back in it; with `whole_words` (`ignore_merges` in
        files), a word that is a token is that token, whether merges make it or not.
        """
        if pattern not in PATTERNS:
            raise UserError(f"pattern = {pattern!r}: choose one of {list(PATTERNS)}")
        self.pattern, self.nfc, self.whole_words = pattern, nfc, whole_words
        self.extras = extras or Extras()
        self.merges = list(merges)
        if vocab is None:
            pieces = [bytes([byte]) for byte in range(256)]
            pieces += [left + right for left, right in self.merges]
            vocab = {piece: index for index, piece in enumerate(pieces)}
        if not isinstance(special_tokens, Mapping):
            if len(set(special_tokens)) < len(special_tokens):
                raise UserError(f"special_tokens = {special_tokens!r}: one comes twice")
            special_tokens = {t: len(vocab) + i for i, t in enumerate(special_tokens)}
        self.text_tokens = dict(text_tokens or {})
        self._set_vocab(dict(vocab), dict(special_tokens))
        self._set_text_tokens()
        self._split = regex.compile(PATTERNS[pattern]).findall
        self._cache: dict[str, list[int]] = {}
        self._expected = 0  # characters so far
        self._encoder: Encoder | None = None  # the compiled one, once it pays

    def _set_vocab(self, vocab: dict[bytes, int], special: dict[str, int]) -> None:
        """Check that everything fits together, and number the merges."""
        text = self.text_tokens
        size = len(vocab) + len(special) + len(text)
        taken = [*vocab.values(), *special.values(), *text.values()]
        if not all(map(is_id, taken)) or sorted(taken) != list(range(size)):
            raise UserError(f"vocabulary: ids must be 0..{size - 1}, each once")
        pieces = [b""] * size
        for piece, index in vocab.items():
            pieces[index] = piece
        for token, index in text.items():
            pieces[index] = to_bytes(token)
        self._set_pieces(pieces, special)
        for byte in range(256):
            if bytes([byte]) not in vocab:
                raise UserError(f"vocabulary: byte 0x{byte:02X} has no token")
        # A merge uses bytes and what earlier merges made. Not so in files made from a
        # ranked vocabulary: they list every way to make a token, where it stands.
        made = {bytes([byte]) for byte in range(256)}
        made |= vocab.keys() if self.whole_words else set()
        self._ranks: dict[tuple[int, int], int] = {}
        self._merged: dict[tuple[int, int], int] = {}
        for rank, (left, right) in enumerate(self.merges):
            shown = f"merge {rank}, {show_bytes(left)!r} + {show_bytes(right)!r}"
            if left not in made or right not in made:
                raise UserError(f"{shown}: a part is made by no earlier merge")
            if left + right not in vocab:
                raise UserError(f"{shown}: the result is not in the vocabulary")
            made.add(left + right)
            pair = vocab[left], vocab[right]
            if pair in self._ranks:
                raise UserError(f"{shown}: comes twice")
            self._ranks[pair] = rank
            self._merged[pair] = vocab[left + right]
        if len(made) < len(vocab):
            lost = next(piece for piece in vocab if piece not in made)
            raise UserError(f"vocabulary entry {show_bytes(lost)!r}: no merge makes it")
        self._byte_ids = [vocab[bytes([byte])] for byte in range(256)]
        self._words = vocab if self.whole_words else {}

    def _set_text_tokens(self) -> None:
        """Some are looked for in the text as it is, some once it is normalized."""
        early, late = {}, {}
        for token, index in self.text_tokens.items():
            flags = self.extras.flags.get(token, {})
            (late if self.nfc and flags.get("normalized") else early)[token] = index
        self._early, self._late = TextTokens(early), TextTokens(late)

    @classmethod
    def train(
        cls,
        files_or_texts: Iterable[str | Path],
        vocab_size: int,
        *,
        pattern: str = "gpt4",
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
        processes: int = 1,
        readable: bool = False,
    ) -> BPETokenizer:
        """Learn `vocab_size` tokens, 256 bytes and the special tokens among them.

        Files are read piece by piece; a `str` is a text, or the name of a file that
        exists. A text too small for so many merges gives fewer: `vocab_size` of the
        result is what it has. `readable=True` learns with the functions above.
        """
        from folio.text.fast_bpe import fast_training
        from folio.text.word_counts import count_words

        num_merges = vocab_size - 256 - len(special_tokens)
        if num_merges < 0:
            raise UserError(
                f"vocab_size = {vocab_size}: 256 bytes and {len(special_tokens)} "
                f"special tokens need at least {256 + len(special_tokens)}"
            )
        if pattern not in PATTERNS:
            raise UserError(f"pattern = {pattern!r}: choose one of {list(PATTERNS)}")
        count, learn = count_split, learn_merges
        if not readable:
            count, learn = fast_training(files_or_texts, pattern)
        count = partial(count, pattern=pattern)
        counts = count_words(files_or_texts, count, safe_cut, special_tokens, processes)
        merges = learn(counts, num_merges)
        return cls(merges, pattern, special_tokens)

    # encoding

    def encode(self, text: str) -> list[int]:
        """The same ids from the readable loop and, once much has come, compiled."""
        self._expect(len(text))
        if self._encoder is not None:
            return self._encode_parts(text, self._encoder.encode)
        return self.encode_readably(text)

    def encode_batch(self, texts: Sequence[str], processes: int = 1) -> list[list[int]]:
        self._expect(sum(map(len, texts)))  # compile once, before processes part
        return super().encode_batch(texts, processes)

    def _expect(self, characters: int) -> None:
        """Take the compiled encoder once so much text comes that it pays."""
        self._expected += characters
        if self._encoder is None and self._expected >= COMPILED_FROM:
            from folio.text.fast_bpe import make_encoder

            self._encoder = make_encoder(self)

    def encode_readably(self, text: str) -> list[int]:
        """Split, then spell each word; words met before are remembered."""
        to_bytes(text)
        return self._encode_parts(text, self._encode_part)

    def _encode_parts(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        """Take out text tokens and normalize; `encode` what is left."""
        if not self.text_tokens and not self.nfc:
            return encode(text)
        to_bytes(text)
        ids: list[int] = []
        for part in self._early.split(text):
            if isinstance(part, int):
                ids.append(part)
                continue
            part = unicodedata.normalize("NFC", part) if self.nfc else part
            for piece in self._late.split(part):
                ids += [piece] if isinstance(piece, int) else encode(piece)
        return ids

    def _encode_part(self, text: str) -> list[int]:
        cache = self._cache
        ids: list[int] = []
        for word in self._split(text):
            known = cache.get(word)
            ids += self._encode_word(word) if known is None else known
        return ids

    def _encode_word(self, word: str) -> list[int]:
        spelled = word.encode()
        if spelled in self._words:
            return [self._words[spelled]]
        ids = [self._byte_ids[byte] for byte in spelled]
        if len(ids) > LONG_WORD:
            from folio.text.fast_bpe import merge_long_word

            return merge_long_word(ids, self._ranks, self._merged)
        ids = merge_word(ids, self._ranks, self._merged)
        if len(self._cache) >= CACHED_WORDS:
            self._cache.clear()
        self._cache[word] = ids
        return ids

    def _safe_cut(self, text: str) -> int:
        if not self.text_tokens and not self.nfc:
            return safe_cut(text)
        for match in _LAST_SAFE_CUT.finditer(text):
            cut = match.end()
            # Only where normalizing leaves both neighbors as they are: a letter may
            # become a letter with a mark, which is no letter.
            if (
                self._early.may_cut(text, cut)
                and self._late.may_cut(text, cut)
                and (not self.nfc or all(map(_is_composed, text[cut - 1 : cut + 1])))
            ):
                return cut
        return 0

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: not what can be made again there."""
        return {**self.__dict__, "_cache": {}, "_encoder": None}

    # files

    @classmethod
    def from_gpt2(
        cls,
        folder: str | Path | None = None,
        *,
        vocab: str | Path | None = None,
        merges: str | Path | None = None,
        special_tokens: Sequence[str] = (),
    ) -> BPETokenizer:
        """Read vocab.json and merges.txt as OpenAI released them for GPT-2.

        Give the folder with both, or each file. `<|endoftext|>` (or another entry of
        `special_tokens`) may be in the file; those that are not are added behind.
        """
        from folio.text.bpe_files import read_gpt2

        parts = read_gpt2(folder, vocab, merges)
        tokenizer = cls(parts.merges, parts.pattern, parts.special_tokens, parts.vocab)
        return tokenizer.with_special_tokens(special_tokens)

    def _to_json(self) -> dict[str, Any]:
        from folio.text.bpe_files import bpe_json

        return bpe_json(self)

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> BPETokenizer:
        from folio.text.bpe_files import read_bpe_json

        parts = read_bpe_json(data)
        return cls(
            parts.merges,
            parts.pattern,
            parts.special_tokens,
            parts.vocab,
            text_tokens=parts.text_tokens,
            nfc=parts.nfc,
            whole_words=parts.whole_words,
            extras=parts.extras,
        )
