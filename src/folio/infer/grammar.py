"""Answers that keep to a grammar: JSON, or JSON of a given shape.

Which tokens may follow is worked out by llguidance, an extra; here its answers become
masks for a sampler.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.steering import Grammar
from folio.text.tokenizer import Tokenizer

ANY_OBJECT = {"type": "object"}


class Grammars:
    """Makes grammars for one tokenizer; what that takes is prepared once.

    UserError if llguidance is absent.
    """

    def __init__(self, tokenizer: Tokenizer, end: int):
        """`end`: the id with which a text ends."""
        try:
            import llguidance
        except ImportError:
            raise UserError(
                "a grammar needs the package llguidance: pip install 'folio-llm[serve]'"
            ) from None
        self.library = llguidance
        vocabulary = llguidance.TokenizerWrapper(_Vocabulary(tokenizer, end))
        self.tokenizer = llguidance.LLTokenizer(vocabulary)

    def json(self, schema: Any = None) -> Callable[[], Grammar]:
        """A grammar of JSON: any object, or what the JSON schema describes.

        UserError for a schema that makes no sense or has what can't be followed.
        """
        matcher = self.library.LLMatcher
        schema = ANY_OBJECT if schema is None else schema
        # One space at most between the parts: a small model would write spaces for ever
        options = {"whitespace_flexible": False}
        try:
            text = json.dumps(schema, allow_nan=False)
            grammar = matcher.grammar_from_json_schema(text, defaults=options)
            error = matcher.validate_grammar(grammar, self.tokenizer)
        except (ValueError, TypeError, RecursionError) as wrong:
            error = str(wrong)
        if error:
            raise UserError(f"json_schema: {first_line(error)}")
        return lambda: _Matcher(matcher(self.tokenizer, grammar, log_level=0))


class _Matcher:
    """One text under way; see `Grammar`."""

    def __init__(self, matcher: Any):
        self.matcher = matcher
        self._check()

    def allowed(self) -> Tensor:
        bits = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return torch.from_numpy(np.unpackbits(bits, bitorder="little").astype(bool))

    def accept(self, token: int) -> None:
        if not self.matcher.is_stopped():
            self.matcher.consume_token(token)
            self._check()

    def _check(self) -> None:
        if self.matcher.is_error():
            raise UserError(f"grammar: {first_line(self.matcher.get_error())}")


class _Vocabulary:
    """A tokenizer as llguidance wants to see it."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, end: int):
        self.tokenizer, self.eos_token_id = tokenizer, end
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_tokens.values())

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", errors="replace")
        return self.tokenizer.encode(text)


def first_line(text: str) -> str:
    """What a library says, short enough for a message."""
    lines = text.strip().splitlines() or [""]
    return lines[0][:300]
