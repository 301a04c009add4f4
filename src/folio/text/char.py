"""The first tokenizer of every course: one id per distinct character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from folio.config import UserError
from folio.text.tokenizer import (
    SPECIAL_TOKENS,
    SurrogateError,
    Tokenizer,
    hugging_face_json,
    is_id,
    read_special_tokens,
    to_bytes,
)


class CharTokenizer(Tokenizer):
    """The sorted characters of a text as ids 0, 1, 2, ..., then the special tokens.

    A character that the text did not have cannot be encoded: that is an error that
    names it, never a silent replacement. (Bytes know no such limit: see byte.py.)

    >>> tokenizer = CharTokenizer.train(["hello"])
    >>> tokenizer.characters
    'ehlo'
    >>> tokenizer.encode("hole")
    [1, 3, 2, 0]
    """

    name = "char"

    def __init__(
        self, characters: Iterable[str], special_tokens: Sequence[str] = SPECIAL_TOKENS
    ):
        self.characters = "".join(sorted(set(characters)))
        to_bytes(self.characters)
        super().__init__([c.encode() for c in self.characters], special_tokens)
        self._ids = {character: i for i, character in enumerate(self.characters)}

    @classmethod
    def train(
        cls, texts: Iterable[str], special_tokens: Sequence[str] = SPECIAL_TOKENS
    ) -> CharTokenizer:
        """Collect the characters of `texts`, read one after another."""
        if isinstance(texts, str):
            texts = [texts]
        characters: set[str] = set()
        for text in texts:
            to_bytes(text)
            characters.update(text)
        if not characters:
            raise UserError("texts: no character to learn; the text is empty")
        return cls(characters, special_tokens)

    def encode(self, text: str) -> list[int]:
        return self._encode(text, 0)

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[int]:
        seen = 0
        for piece in pieces:
            yield from self._encode(piece, seen)
            seen += len(piece)

    def _encode(self, text: str, start: int) -> list[int]:
        """`start` is the offset of `text` in the whole, for errors."""
        ids = self._ids
        try:
            return [ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            offset = start + text.index(character)
        if "\ud800" <= character <= "\udfff":
            raise SurrogateError(offset, character)
        raise UserError(
            f"character {character!r} (U+{ord(character):04X}) at offset {offset} is "
            f"not among the {len(ids)} this tokenizer was trained on; train it on a "
            f"text that has it, or use a byte or BPE tokenizer"
        )

    def _to_json(self) -> dict[str, Any]:
        """For `tokenizers` it is a BPE without merges (which skips unknown ones)."""
        model = {
            "type": "BPE",
            "vocab": self._ids | self.special_tokens,
            "merges": [],
            "folio": {"kind": self.name},
        }
        return hugging_face_json(self.special_tokens, model, decoder={"type": "Fuse"})

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> CharTokenizer:
        special_tokens = read_special_tokens(data)
        vocab = data["model"]["vocab"]
        if not all(is_id(index) for index in vocab.values()):
            raise UserError("model.vocab: an id is not a whole number >= 0")
        characters = [token for token in vocab if token not in special_tokens]
        if any(len(token) != 1 for token in characters):
            raise UserError("model.vocab: an entry is not one character")
        tokenizer = cls(characters, list(special_tokens))
        if data != tokenizer._to_json():
            raise UserError("model.vocab: ids must be 0, 1, 2, ... in sorted order")
        return tokenizer
