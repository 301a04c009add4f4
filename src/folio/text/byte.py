"""The smallest complete tokenizer: one id per UTF-8 byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.config import UserError
from folio.text.byte_level import BYTE_LEVEL, BYTE_TO_CHARACTER
from folio.text.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    hugging_face_json,
    read_special_tokens,
    to_bytes,
)


class ByteTokenizer(Tokenizer):
    """256 bytes, then the special tokens. Nothing to train, nothing unknown.

    >>> ByteTokenizer().encode("né")
    [110, 195, 169]
    """

    name = "byte"

    def __init__(self, special_tokens: Sequence[str] = SPECIAL_TOKENS):
        super().__init__([bytes([i]) for i in range(256)], special_tokens)

    def encode(self, text: str) -> list[int]:
        return list(to_bytes(text))

    def _to_json(self) -> dict[str, Any]:
        """For `tokenizers` it is a byte-level BPE without merges."""
        vocab = {BYTE_TO_CHARACTER[i]: i for i in range(256)}
        model = {
            "type": "BPE",
            "vocab": vocab | self.special_tokens,
            "merges": [],
            "folio": {"kind": self.name},
        }
        pre_tokenizer = {**BYTE_LEVEL, "use_regex": False}
        return hugging_face_json(self.special_tokens, model, pre_tokenizer, BYTE_LEVEL)

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> ByteTokenizer:
        special_tokens = read_special_tokens(data)
        tokenizer = cls(list(special_tokens))
        if data != tokenizer._to_json():
            raise UserError("a byte tokenizer has nothing but 256 bytes and specials")
        return tokenizer
