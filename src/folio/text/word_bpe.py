"""Byte-pair encoding as it came to language models: words, characters and "</w>".

Sennrich et al. (2016) start from the words of a text, spelled as characters and a
mark for the end of the word, and again and again glue the pair of neighbors that
occurs most often. `learn_merges` and `merge_word` are that algorithm; bpe.py uses
them on bytes instead of characters.

What the paper leaves open, and this file answers, is how to get the text back
exactly. Here "</w>" *is* the one space that ended the word. A word that ends with a
newline or with the text is spelled without it; any other space, tab or newline is a
symbol by itself. A character that training never saw is spelled as its UTF-8 bytes,
for which 256 ids are kept. So each id stands for fixed bytes, and nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import regex

from folio.config import UserError
from folio.text.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    hugging_face_json,
    read_special_tokens,
    to_bytes,
)

END = "</w>"
Piece = TypeVar("Piece", str, bytes)

# A word with the space that ends it, or one character of white space. A text may
# contain the four characters "</w>" themselves: a cut behind their "<" keeps any
# merge from gluing them into a false END.
_WORD = regex.compile(r"\S(?:(?!(?<=<)/w>)\S)* ?|\s")
_LAST_SPACE = regex.compile(r"(?r)\s")
LONG_WORD = 64  # symbols; longer words are merged by fast_bpe's n log n method
CACHED_WORDS = 1 << 18


def spell(word: str) -> tuple[str, ...]:
    """A word as symbols.

    >>> spell("low ")
    ('l', 'o', 'w', '</w>')
    >>> spell("low")
    ('l', 'o', 'w')
    """
    return (*word[:-1], END) if word.endswith(" ") else tuple(word)


def learn_merges(
    words: Mapping[tuple[Piece, ...], int], num_merges: int
) -> list[tuple[Piece, Piece]]:
    """The merges in the order learned: the most frequent pair of neighbors first.

    `words` says how often each spelled word occurs. Among equally frequent pairs the
    lexicographically greatest wins, so the result depends on nothing but the counts;
    it ends early when no pair is left. Here "lo" and "ow" both occur 7 times:

    >>> learn_merges({tuple("low"): 5, tuple("lower"): 2, tuple("newer"): 4}, 3)
    [('o', 'w'), ('l', 'ow'), ('e', 'r')]
    """
    spelled = [(list(word), count) for word, count in words.items()]
    merges: list[tuple[Piece, Piece]] = []
    while len(merges) < num_merges:
        pairs: Counter[tuple[Piece, Piece]] = Counter()
        for pieces, count in spelled:
            for pair in pairwise(pieces):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = [(glue(pieces, best), count) for pieces, count in spelled]
    return merges


def glue(pieces: Iterable[Piece], pair: tuple[Piece, Piece]) -> list[Piece]:
    """Replace each occurrence of `pair`, from left to right, by its one new piece.

    >>> glue(["a", "a", "a", "b"], ("a", "a"))
    ['aa', 'a', 'b']
    """
    glued: list[Piece] = []
    for piece in pieces:
        if glued and (glued[-1], piece) == pair:
            glued[-1] += piece
        else:
            glued.append(piece)
    return glued


def merge_word(
    ids: Sequence[int],
    ranks: Mapping[tuple[int, int], int],
    merged: Mapping[tuple[int, int], int],
) -> list[int]:
    """Apply the merges to one word: always the earliest learned, leftmost first.

    `ranks` says when a pair was learned, `merged` the id it becomes. Quadratic in
    the length, which is fine for words.

    >>> merge_word([1, 2, 3], {(2, 3): 0, (1, 2): 1}, {(2, 3): 4, (1, 2): 5})
    [1, 4]
    """
    ids, never = list(ids), len(ranks)
    while len(ids) > 1:
        rank, place = min(
            (ranks.get(pair, never), place) for place, pair in enumerate(pairwise(ids))
        )
        if rank == never:
            break
        ids[place : place + 2] = [merged[ids[place], ids[place + 1]]]
    return ids


def train_bpe(
    text: str, num_merges: int
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """The classic, complete: (merges, vocab) of the words of `text`.

    Each word of `text.split()` counts as ended by "</w>". `vocab` maps symbols to
    ids: the sorted characters (and "</w>") first, then what each merge made.

    >>> merges, vocab = train_bpe("low low lower", 3)
    >>> merges
    [('o', 'w'), ('l', 'ow'), ('low', '</w>')]
    >>> list(vocab)
    ['</w>', 'e', 'l', 'o', 'r', 'w', 'ow', 'low', 'low</w>']
    """
    to_bytes(text)
    counts = Counter(_WORD.findall(" ".join(text.split()) + " "))
    words = {spell(word): count for word, count in counts.items() if word != " "}
    merges = learn_merges(words, num_merges)
    symbols = sorted({symbol for word in words for symbol in word})
    symbols += [left + right for left, right in merges]
    return merges, {symbol: index for index, symbol in enumerate(symbols)}


class WordBPETokenizer(Tokenizer):
    """Ids: 256 bytes, "</w>", the sorted characters, merges in order, specials.

    >>> tokenizer = WordBPETokenizer.train(["low low lower lowest"], vocab_size=277)
    >>> [tokenizer.token_bytes(i) for i in tokenizer.encode("low lower")]
    [b'low ', b'lowe', b'r']
    """

    name = "word_bpe"

    def __init__(
        self,
        characters: Iterable[str],
        merges: Iterable[tuple[str, str]],
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
    ):
        self.characters = "".join(sorted(set(characters) - {" "}))
        self.merges = [(left, right) for left, right in merges]
        symbols = [END, *self.characters]
        made = set(symbols)
        for rank, (left, right) in enumerate(self.merges):
            if left not in made or right not in made or left + right in made:
                raise UserError(
                    f"merge {rank}, {left!r} + {right!r}: its parts must come before, "
                    f"its result must be new"
                )
            made.add(left + right)
            symbols.append(left + right)
        pieces = [bytes([byte]) for byte in range(256)]
        super().__init__(pieces + [_bytes_of(s) for s in symbols], special_tokens)
        ids = self._ids = {symbol: 256 + i for i, symbol in enumerate(symbols)}
        pairs = [(ids[left], ids[right]) for left, right in self.merges]
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        first = 256 + 1 + len(self.characters)
        self._merged = {pair: first + rank for rank, pair in enumerate(pairs)}
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        files_or_texts: Iterable[str | Path],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
        processes: int = 1,
    ) -> WordBPETokenizer:
        """Learn from files, read in pieces, or texts (see `word_counts.as_source`).

        All characters of the text get an id; `vocab_size` must have room for them. A
        text too small for so many merges gives fewer, and a smaller `vocab_size`.
        """
        from folio.text.fast_bpe import learn_merges_heap
        from folio.text.word_counts import count_words

        counts = count_words(
            files_or_texts, _count, _safe_cut, special_tokens, processes
        )
        words = {spell(word): count for word, count in counts.items()}
        characters = {symbol for word in words for symbol in word if symbol != END}
        least = 256 + 1 + len(characters) + len(special_tokens)
        if vocab_size < least:
            raise UserError(
                f"vocab_size = {vocab_size}: this text needs at least {least} "
                f"(256 bytes, {len(characters)} characters, </w>, special tokens)"
            )
        merges = learn_merges_heap(words, vocab_size - least)
        return cls(characters, merges, special_tokens)

    def encode(self, text: str) -> list[int]:
        to_bytes(text)
        cache = self._cache
        ids: list[int] = []
        for word in _WORD.findall(text):
            known = cache.get(word)
            ids += self._encode_word(word) if known is None else known
        return ids

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        for symbol in spell(word):
            known = self._ids.get(symbol)
            ids += symbol.encode() if known is None else [known]  # bytes are ids 0..255
        if len(ids) > LONG_WORD:
            from folio.text.fast_bpe import merge_long_word

            return merge_long_word(ids, self._ranks, self._merged)
        ids = merge_word(ids, self._ranks, self._merged)
        if len(self._cache) >= CACHED_WORDS:
            self._cache.clear()
        self._cache[word] = ids
        return ids

    def _safe_cut(self, text: str) -> int:
        return _safe_cut(text)

    def _to_json(self) -> dict[str, Any]:
        """Our own format: `tokenizers` has no "</w>" that keeps white space exactly."""
        content = {
            "kind": self.name,
            "characters": self.characters,
            "merges": [list(pair) for pair in self.merges],
        }
        model = {"type": "folio", "folio": content}
        return hugging_face_json(self.special_tokens, model)

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> WordBPETokenizer:
        content = data["model"]["folio"]
        special_tokens = list(read_special_tokens(data))
        tokenizer = cls(content["characters"], content["merges"], special_tokens)
        if data != tokenizer._to_json():
            raise UserError("ids must be bytes, </w>, characters, merges, specials")
        return tokenizer


def _bytes_of(symbol: str) -> bytes:
    if symbol.endswith(END):
        return to_bytes(symbol.removesuffix(END) + " ")
    return to_bytes(symbol)


def _count(texts: list[str]) -> Counter[str]:
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_WORD.findall(text))
    return words


def _safe_cut(text: str) -> int:
    """Behind the last white space: a word begins there, whatever it is."""
    match = _LAST_SPACE.search(text)
    return match.end() if match else 0
