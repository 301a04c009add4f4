"""BPE over characters, as SentencePiece does it for Llama 2, Mistral and Gemma.

Kudo and Richardson (2018). Three things differ from byte-level BPE:

1. A space is written "▁" (U+2581) and is a character like others, so a text needs no
   cutting into words. Most files put one before the text, so that a word is the same
   token at the beginning as elsewhere; decoding takes one away.
2. The symbols that are merged are characters. One that has no token is spelled by its
   UTF-8 bytes, for which the vocabulary has 256 tokens `<0x00>` to `<0xFF>`.
3. Merges are tried by rank wherever they are; none is kept from crossing a space, but
   as a rule no token has one inside. Then words can be merged one by one, and
   remembered: same ids, sooner.

What comes back from `decode` is not always the text. "▁" itself becomes a space, and
some files put no space before a text that begins with one: so it is with these models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import regex

from folio.config import UserError
from folio.text.added_tokens import Extras, TextTokens, is_id
from folio.text.fast_bpe import merge_long_word
from folio.text.tokenizer import Tokenizer, to_bytes
from folio.text.word_bpe import CACHED_WORDS, LONG_WORD, merge_word

SPACE = "▁"
BYTE_NAMES = tuple(f"<0x{byte:02X}>" for byte in range(256))
# Where "▁" is put: before each stretch of text between control tokens ("stretch"), the
# same unless it begins with one ("new word"), only at the very start of the text and
# unless it begins with one ("start"), or nowhere.
Prefix = Literal["stretch", "new word", "start", "nowhere"]
_WORD = regex.compile(rf"{SPACE}*[^{SPACE}]+|{SPACE}+")
_LAST_WORD = regex.compile(rf"(?r)[^ {SPACE}](?=[ {SPACE}])")


class SentencePieceTokenizer(Tokenizer):
    """A vocabulary of pieces, written as in the file, and merges between them.

    >>> pieces = {name: i for i, name in enumerate([*BYTE_NAMES, "▁", "l", "o", "▁l"])}
    >>> tokenizer = SentencePieceTokenizer(pieces, [("▁", "l")], {})
    >>> [tokenizer.token_bytes(i) for i in tokenizer.encode("lol")]
    [b' l', b'o', b'l']
    >>> tokenizer.decode(tokenizer.encode("lol é"))
    'lol é'
    """

    name = "sentencepiece"

    def __init__(
        self,
        pieces: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        special_tokens: Mapping[str, int],
        *,
        text_tokens: Mapping[str, int] | None = None,
        prefix: Prefix = "stretch",
        extras: Extras | None = None,
    ):
        """`pieces` may name added tokens, too. Merges that touch a control token or a
        byte are left out: text must never become one."""
        self.extras, self.prefix = extras or Extras(), prefix
        self.leading_space = prefix != "nowhere"
        self.text_tokens = dict(text_tokens or {})
        self.pieces = {**pieces, **self.text_tokens}
        for token in special_tokens:
            self.pieces.pop(token, None)
        self._find = TextTokens(self.text_tokens)
        self._set_vocab(dict(special_tokens))
        self._set_merges(merges)
        self._cache: dict[str, list[int]] = {}

    def _set_vocab(self, special: dict[str, int]) -> None:
        taken = [*self.pieces.values(), *special.values()]
        if not all(map(is_id, taken)) or sorted(taken) != list(range(len(taken))):
            raise UserError(f"vocabulary: ids must be 0..{len(taken) - 1}, each once")
        for name in BYTE_NAMES:
            if name not in self.pieces:
                raise UserError(f"vocabulary: {name} is missing, one of the 256 bytes")
        values = {name: bytes([byte]) for byte, name in enumerate(BYTE_NAMES)}
        spelled = [b""] * len(taken)
        for piece, index in self.pieces.items():
            text = to_bytes(piece.replace(SPACE, " "))
            spelled[index] = values.get(piece, text)
        self._set_pieces(spelled, special)
        self._byte_ids = [self.pieces[name] for name in BYTE_NAMES]
        self._ids = {p: i for p, i in self.pieces.items() if p not in values}

    def _set_merges(self, merges: Iterable[tuple[str, str]]) -> None:
        self.merges: list[tuple[str, str]] = []
        self._ranks: dict[tuple[int, int], int] = {}
        self._merged: dict[tuple[int, int], int] = {}
        known, ids = self.pieces.keys() | self.special_tokens.keys(), self._ids
        self._words_apart = True
        for rank, (left, right) in enumerate(merges):
            whole = left + right
            if not {left, right, whole} <= known:
                raise UserError(
                    f"merge {rank}, {left!r} + {right!r}: the parts and the result "
                    f"must be in the vocabulary"
                )
            if left not in ids or right not in ids or whole not in ids:
                continue
            pair = ids[left], ids[right]
            if pair in self._ranks:
                raise UserError(f"merge {rank}, {left!r} + {right!r}: comes twice")
            self._ranks[pair] = len(self.merges)
            self._merged[pair] = ids[whole]
            self.merges.append((left, right))
            if SPACE in whole.lstrip(SPACE):
                self._words_apart = False

    # encoding

    def encode(self, text: str) -> list[int]:
        return self._encode_stretch(text, self.prefix != "nowhere")

    def encode_inside(self, text: str) -> list[int]:
        return self._encode_stretch(text, self.prefix in ("stretch", "new word"))

    def _encode_on(self, text: str) -> list[int]:
        return self._encode_stretch(text, False)

    def _encode_stretch(self, text: str, prefixed: bool) -> list[int]:
        """`prefixed`: does "▁" belong before it? Behind text tokens, `prefix` tells."""
        to_bytes(text)
        ids: list[int] = []
        for part in self._find.split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                shown = part.replace(" ", SPACE)
                begins = shown.startswith(SPACE) and self.prefix != "stretch"
                ids += self._encode_shown(
                    SPACE + shown if prefixed and not begins else shown
                )
            prefixed = self.prefix in ("stretch", "new word")
        return ids

    def _encode_shown(self, shown: str) -> list[int]:
        if not self._words_apart:
            return self._merge(shown)
        cache = self._cache
        ids: list[int] = []
        for word in _WORD.findall(shown):
            known = cache.get(word)
            if known is None:
                known = self._merge(word)
                if len(word) <= LONG_WORD:
                    if len(cache) >= CACHED_WORDS:
                        cache.clear()
                    cache[word] = known
            ids += known
        return ids

    def _merge(self, word: str) -> list[int]:
        """The symbols of `word`, merged."""
        ids: list[int] = []
        for character in word:
            known = self._ids.get(character)
            if known is None:
                ids += [self._byte_ids[byte] for byte in character.encode()]
            else:
                ids.append(known)
        merge = merge_word if len(ids) <= LONG_WORD else merge_long_word
        return merge(ids, self._ranks, self._merged)

    def _safe_cut(self, text: str) -> int:
        """Before a space that ends a word, if no token has one inside."""
        if not self._words_apart:
            return 0
        for match in _LAST_WORD.finditer(text):
            if self._find.may_cut(text, match.end()):
                return match.end()
        return 0

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: not what can be made again there."""
        return {**self.__dict__, "_cache": {}}

    # the file

    def _to_json(self) -> dict[str, Any]:
        from folio.text.sentencepiece_files import sentencepiece_json

        return sentencepiece_json(self)

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> SentencePieceTokenizer:
        from folio.text.sentencepiece_files import read_sentencepiece_json

        return read_sentencepiece_json(data)
