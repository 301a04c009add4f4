"""Answers that keep to a grammar: JSON, or JSON of a given shape.

Which tokens may follow is worked out by llguidance, an extra; here its answers become
masks for a sampler. A schema is a program that strangers write: what it may cost is
limited, in size, in time to prepare, and in each step.
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
LONGEST_SCHEMA = 32_768  # characters; a constant of 500,000 took 5 s a token
COSTLY = "multipleOf"  # one automaton state for each remainder: 999,983 took 40 s
MOST_PATTERNS = 8  # they may have to hold together: for 26 that took minutes
LIMITS = {  # a fifth of what llguidance allows: steps stay below some 20 ms
    "initial_lexer_fuel": 200_000,
    "step_lexer_fuel": 50_000,
    "step_max_items": 20_000,
    "max_items_in_row": 1000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 50_000,
    "verbose_errors": False,  # they quote the schema
}


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

        All that takes long is done here, on the thread that asks; what is returned only
        copies. UserError for a schema that makes no sense, has what can't be followed,
        or would take too long.
        """
        matcher, error = None, ""
        # One space at most between the parts: a small model would write spaces for ever
        options = {"whitespace_flexible": False}
        try:
            text = _checked(ANY_OBJECT if schema is None else schema)
            rules = self.library.LLMatcher.grammar_from_json_schema(text, options)
            limits = self.library.LLParserLimits(**LIMITS)
            matcher = self.library.LLMatcher(
                self.tokenizer, rules, log_level=0, limits=limits
            )
            matcher.compute_bitmask()  # the lexer is made for the first one
            error = matcher.get_error()
        except (ValueError, TypeError, RecursionError) as wrong:
            error = str(wrong)
        if error:
            raise UserError(f"json_schema: {first_line(error)}")
        return lambda: _Matcher(matcher.deep_copy())


def _checked(schema: Any) -> str:
    """The schema as text. ValueError where it is too long, or costs too much."""
    text = json.dumps(schema, allow_nan=False)
    if len(text) > LONGEST_SCHEMA:
        raise ValueError(f"{len(text)} characters; at most {LONGEST_SCHEMA}")
    if f'"{COSTLY}"' in text:
        raise ValueError(f"{COSTLY} takes too long to prepare; leave it out")
    if text.count('"pattern') > MOST_PATTERNS:
        raise ValueError(f"more than {MOST_PATTERNS} patterns")
    return text


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
