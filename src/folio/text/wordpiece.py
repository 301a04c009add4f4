"""WordPiece: merges chosen by what they gain, words spelled longest piece first.

Schuster and Nakajima (2012), as known from BERT (Devlin et al. 2019). Two things
differ from byte-pair encoding:

* Training glues the pair of pieces that raises the likelihood of the text most, not
  the most frequent one. Many texts name count(ab) / (count(a) · count(b)) for this;
  that is the gain of *one* occurrence, and by it rare accidents come first (Tiny
  Shakespeare, 1,024 ids: 1.04 characters per token). The gain of the whole text,
  count(ab) times the logarithm of that, gives 2.15. Both are here: `gain`, `ratio`.
* Encoding knows no merges. From the left it takes the longest piece that fits.

A piece inside a word is written with "##" before it, so "##ing" and "ing" differ.

BERT lower-cases, drops white space and replaces words it cannot spell by [UNK]. Here
every text comes back exactly: words are GPT-2's (with the space before them, see
bpe.py), and a character that no piece covers is spelled as its UTF-8 bytes, for which
256 ids are kept.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex

from folio.config import UserError
from folio.text.bpe import PATTERNS, count_split, safe_cut
from folio.text.fast_bpe import Greatest
from folio.text.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    hugging_face_json,
    read_special_tokens,
    to_bytes,
)
from folio.text.word_bpe import CACHED_WORDS

INSIDE = "##"
MIN_COUNT = 2  # of a pair: what occurs once is no pattern
LONGEST = 64  # characters of a piece
# A piece and where it stands: (text, False) starts a word, (text, True) is inside it.
# Written out they could be mistaken: "##" is also what a heading starts with.
Piece = tuple[str, bool]


def spell(word: str) -> tuple[Piece, ...]:
    """A word as its characters.

    >>> [show(piece) for piece in spell("low")]
    ['l', '##o', '##w']
    """
    return tuple((character, place > 0) for place, character in enumerate(word))


def show(piece: Piece) -> str:
    text, inside = piece
    return INSIDE + text if inside else text


def join(pair: tuple[Piece, Piece]) -> Piece:
    """Two neighbors as one piece, which stands where the first one stands."""
    (left, inside), (right, _) = pair
    return left + right, inside


def glue(pieces: Sequence[Piece], pair: tuple[Piece, Piece]) -> list[Piece]:
    """Replace each occurrence of `pair`, from left to right."""
    glued: list[Piece] = []
    for piece in pieces:
        if glued and (glued[-1], piece) == pair:
            glued[-1] = join(pair)
        else:
            glued.append(piece)
    return glued


def ratio(pair: int, left: int, right: int, total: int) -> float:
    """How many times more often than by chance two pieces are neighbors.

    `pair`, `left`, `right` are counts, `total` is the number of all characters.
    """
    return pair * total / (left * right)


def gain(pair: int, left: int, right: int, total: int) -> float:
    """What gluing adds to the log-likelihood of a text of independent pieces (nats).

    Each of the `pair` places had the probability left/total · right/total and gets
    pair/total. The ratio alone likes a chance meeting of two rare pieces best:

    >>> ratio(2, 2, 2, 1000) > ratio(30, 40, 50, 1000)
    True
    >>> gain(2, 2, 2, 1000) > gain(30, 40, 50, 1000)
    False
    """
    return pair * math.log(ratio(pair, left, right, total))


SCORES = {"gain": gain, "ratio": ratio}


def learn_pieces(
    words: Mapping[tuple[Piece, ...], int],
    number: int,
    score: str = "gain",
    min_count: int = MIN_COUNT,
) -> list[Piece]:
    """The new pieces in the order learned: best score first, ties to the greatest.

    >>> words = {spell("hut"): 5, spell("huts"): 5, spell("hat"): 20}
    >>> [show(piece) for piece in learn_pieces(words, 3)]
    ['ha', 'hat', '##ut']
    >>> [show(piece) for piece in learn_pieces(words, 3, "ratio")]
    ['##ut', '##uts', '##at']
    """
    spelled = [(list(word), count) for word, count in words.items()]
    total = sum(len(word) * count for word, count in words.items())
    learned: dict[Piece, None] = {}
    while len(learned) < number:
        singles, pairs = _count_pieces(spelled)
        allowed = [
            (SCORES[score](count, singles[left], singles[right], total), (left, right))
            for (left, right), count in pairs.items()
            if _allowed(left, right, count, min_count)
        ]
        if not allowed:
            break
        _, best = max(allowed)
        learned[join(best)] = None  # another pair may have made it before
        spelled = [(glue(pieces, best), count) for pieces, count in spelled]
    return list(learned)


def _count_pieces(
    spelled: Iterable[tuple[Sequence[Piece], int]],
) -> tuple[Counter[Piece], Counter[tuple[Piece, Piece]]]:
    singles: Counter[Piece] = Counter()
    pairs: Counter[tuple[Piece, Piece]] = Counter()
    for pieces, count in spelled:
        for piece in pieces:
            singles[piece] += count
        for pair in pairwise(pieces):
            pairs[pair] += count
    return singles, pairs


def _allowed(left: Piece, right: Piece, count: int, min_count: int) -> bool:
    return count >= min_count and len(left[0]) + len(right[0]) <= LONGEST


def learn_pieces_heap(
    words: Mapping[tuple[Piece, ...], int],
    number: int,
    score: str = "gain",
    min_count: int = MIN_COUNT,
) -> list[Piece]:
    """`learn_pieces` with counts kept up to date, and the best score on a heap.

    A merge changes the counts of three pieces, and with them the scores of all pairs
    they are in: those are put on the heap anew, their old entries are passed over.
    """
    spelled = [list(word) for word in words]
    numbers = list(words.values())
    total = sum(len(word) * count for word, count in words.items())
    singles, pairs = _count_pieces(zip(spelled, numbers, strict=True))
    places: dict[tuple[Piece, Piece], set[int]] = defaultdict(set)
    touching: dict[Piece, set[tuple[Piece, Piece]]] = defaultdict(set)
    for index, pieces in enumerate(spelled):
        for pair in pairwise(pieces):
            places[pair].add(index)
            touching[pair[0]].add(pair)
            touching[pair[1]].add(pair)

    def entry(pair: tuple[Piece, Piece]) -> tuple[float, Greatest]:
        left, right = pair
        value = SCORES[score](pairs[pair], singles[left], singles[right], total)
        return -value, Greatest(pair)

    heap = [entry(p) for p, n in pairs.items() if _allowed(*p, n, min_count)]
    heapq.heapify(heap)
    learned: dict[Piece, None] = {}
    while heap and len(learned) < number:
        value, greatest = heapq.heappop(heap)
        best = greatest.pair
        if not _allowed(*best, pairs[best], min_count) or entry(best)[0] != value:
            continue
        new = join(best)
        learned[new] = None
        for index in places.pop(best):
            before = spelled[index]
            spelled[index] = after = glue(before, best)
            for pieces, times in ((before, -numbers[index]), (after, numbers[index])):
                for piece in pieces:
                    singles[piece] += times
                for pair in pairwise(pieces):
                    pairs[pair] += times
            for pair in pairwise(after):
                if new in pair:
                    places[pair].add(index)
                    touching[pair[0]].add(pair)
                    touching[pair[1]].add(pair)
        for piece in {*best, new}:
            touching[piece] = {pair for pair in touching[piece] if pairs[pair] > 0}
            for pair in touching[piece]:
                if _allowed(*pair, pairs[pair], min_count):
                    heapq.heappush(heap, entry(pair))
    return list(learned)


class WordPieceTokenizer(Tokenizer):
    """Ids: 256 bytes, the pieces of one character, learned pieces, specials.

    >>> text = "play player playing stay stayed staying " * 5
    >>> tokenizer = WordPieceTokenizer.train([text], vocab_size=300)
    >>> [tokenizer.token_bytes(i) for i in tokenizer.encode(" played")]
    [b' play', b'ed']
    """

    name = "wordpiece"

    def __init__(
        self,
        pieces: Iterable[Piece],
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
    ):
        self.pieces = [(text, bool(inside)) for text, inside in pieces]
        self._ids = {piece: 256 + i for i, piece in enumerate(self.pieces)}
        if len(self._ids) < len(self.pieces):
            raise UserError("pieces: one comes twice")
        # The longest piece that begins with a character, to try no longer ones.
        self._reach: dict[Piece, int] = {}
        for text, inside in self.pieces:
            if not 1 <= len(text) <= LONGEST:
                raise UserError(f"piece {text!r}: must have 1 to {LONGEST} characters")
            first = text[0], inside
            self._reach[first] = max(self._reach.get(first, 0), len(text))
        ordinary = [bytes([byte]) for byte in range(256)]
        ordinary += [to_bytes(text) for text, _ in self.pieces]
        super().__init__(ordinary, special_tokens)
        self._split = regex.compile(PATTERNS["gpt2"]).findall
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        files_or_texts: Iterable[str | Path],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
        score: str = "gain",
        min_count: int = MIN_COUNT,
        processes: int = 1,
    ) -> WordPieceTokenizer:
        """Learn from files, read in pieces, or texts (see `word_counts.as_source`).

        All characters get ids, so `vocab_size` must have room for them. When no pair
        occurs `min_count` times any more, the vocabulary stays smaller than asked.
        """
        from folio.text.word_counts import count_words

        if min_count < 1:
            raise UserError(f"min_count = {min_count}: at least 1")
        if score not in SCORES:
            raise UserError(f"score = {score!r}: choose one of {list(SCORES)}")
        count = partial(count_split, pattern="gpt2")
        counts = count_words(files_or_texts, count, safe_cut, special_tokens, processes)
        words = {spell(word.decode()): number for word, number in counts.items()}
        alphabet = sorted({piece for word in words for piece in word})
        least = 256 + len(alphabet) + len(special_tokens)
        if vocab_size < least:
            raise UserError(
                f"vocab_size = {vocab_size}: this text needs at least {least} (256 "
                f"bytes, {len(alphabet)} characters by place, special tokens)"
            )
        learned = learn_pieces_heap(words, vocab_size - least, score, min_count)
        return cls([*alphabet, *learned], special_tokens)

    def encode(self, text: str) -> list[int]:
        to_bytes(text)
        cache = self._cache
        ids: list[int] = []
        for word in self._split(text):
            known = cache.get(word)
            ids += self._encode_word(word) if known is None else known
        return ids

    def _encode_word(self, word: str) -> list[int]:
        """From the left, the longest piece that fits; a byte where none does."""
        ids: list[int] = []
        start = 0
        while start < len(word):
            inside = start > 0
            reach = start + self._reach.get((word[start], inside), 0)
            for end in range(min(len(word), reach), start, -1):
                known = self._ids.get((word[start:end], inside))
                if known is not None:
                    ids.append(known)
                    start = end
                    break
            else:
                ids += word[start].encode()  # bytes are ids 0..255
                start += 1
        if len(word) <= LONGEST:
            if len(self._cache) >= CACHED_WORDS:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    def _safe_cut(self, text: str) -> int:
        return safe_cut(text)

    def _to_json(self) -> dict[str, Any]:
        """Our own format: WordPiece in `tokenizers` loses text to [UNK]."""
        pieces = [[text, inside] for text, inside in self.pieces]
        content = {"kind": self.name, "pieces": pieces}
        model = {"type": "folio", "folio": content}
        return hugging_face_json(self.special_tokens, model)

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> WordPieceTokenizer:
        pieces = data["model"]["folio"]["pieces"]
        tokenizer = cls(pieces, list(read_special_tokens(data)))
        if data != tokenizer._to_json():
            raise UserError("ids must be bytes, pieces, special tokens, in this order")
        return tokenizer
