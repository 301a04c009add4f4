"""Tokens that a tokenizer.json adds to its vocabulary, sorted by what they may do.

Hugging Face's files list them in one table. Two kinds are in it:

* **control tokens**: no text ever becomes one. All that are marked special, and those
  that look like markup (`<think>`, `[TOOL_CALLS]`) even if they are not: whether they
  are a mark or a user's words must not be for the user to decide;
* **text tokens**: runs of text with an id of their own, such as the long white spaces
  of GPT-NeoX and OLMo. They are found in any text before it is split into words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from folio.config import UserError

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
OURS = {flag: flag == "special" for flag in FLAGS}  # as we mark control tokens
MOST_TEXT_TOKENS = 4096
_MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)

Flags = Mapping[str, Mapping[str, bool]]  # of a token, those that differ from OURS


@dataclass(frozen=True)
class Extras:
    """What a tokenizer of others brings besides its vocabulary.

    `roles` are names such as {"bos_token": "<s>", "eos_token": "</s>"}; `start` are
    the control tokens that a prompt begins with. `chat` is a chat template as
    `ChatTemplate.to_json` gives it, `jinja` the program that it was read from.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    flags: Flags = field(default_factory=dict)
    chat: Mapping[str, Any] | None = None
    jinja: str | None = None


@dataclass(frozen=True)
class AddedTokens:
    """The table `added_tokens`: name -> id of each kind, and their flags."""

    control: dict[str, int]
    text: dict[str, int]
    flags: dict[str, dict[str, bool]]


def read_added_tokens(data: Mapping[str, Any]) -> AddedTokens:
    """The added tokens of a tokenizer.json, checked and sorted by id."""
    found = AddedTokens({}, {}, {})
    taken: set[int] = set()
    entries = data.get("added_tokens") or []
    for entry in sorted(entries, key=lambda entry: entry["id"]):
        token, index = entry["content"], entry["id"]
        if not isinstance(token, str) or not token or not is_id(index):
            raise UserError(f"added_tokens: {token!r} with id {index!r} makes no sense")
        if token in found.control or token in found.text or index in taken:
            raise UserError(f"added_tokens: {token!r} (id {index}) comes twice")
        taken.add(index)
        flags = {flag: entry.get(flag, False) for flag in FLAGS}
        if not all(isinstance(value, bool) for value in flags.values()):
            raise UserError(f"added_tokens: the flags of {token!r} must be true, false")
        found.flags[token] = {k: v for k, v in flags.items() if v != OURS[k]}
        if flags["special"] or _MARKUP.fullmatch(token):
            found.control[token] = index
            continue
        for flag in ("single_word", "lstrip", "rstrip"):
            if flags[flag]:
                raise UserError(f"added_tokens: {token!r} has {flag}: not supported")
        found.text[token] = index
    if len(found.text) > MOST_TEXT_TOKENS:
        raise UserError(
            f"added_tokens: {len(found.text)} that are not special; at most "
            f"{MOST_TEXT_TOKENS} can be searched for"
        )
    return AddedTokens(
        found.control, found.text, {t: f for t, f in found.flags.items() if f}
    )


def is_id(value: Any) -> bool:
    """A JSON number that can be a token id (True is not one)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def added_tokens_json(tokens: Mapping[str, int], flags: Flags) -> list[dict[str, Any]]:
    """Added tokens as Hugging Face's `tokenizers` writes them, by id."""
    return [
        {"id": index, "content": token, **OURS, **flags.get(token, {})}
        for token, index in sorted(tokens.items(), key=lambda item: item[1])
    ]


class TextTokens:
    """Finds text tokens: from the left, the longest first.

    >>> tokens = TextTokens({"  ": 7, "    ": 8})
    >>> list(tokens.split("a      b"))
    ['a', 8, 7, 'b']
    """

    def __init__(self, ids: Mapping[str, int]):
        self.ids = dict(ids)
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._find = re.compile("|".join(map(re.escape, longest_first)))
        self._neighbors = {
            token[i : i + 2] for token in ids for i in range(len(token) - 1)
        }

    def split(self, text: str) -> Iterator[str | int]:
        """Ids of the tokens found, and what stands between them."""
        start = 0
        if self.ids:
            for match in self._find.finditer(text):
                if match.start() > start:
                    yield text[start : match.start()]
                yield self.ids[match[0]]
                start = match.end()
        if start < len(text):
            yield text[start:]

    def may_cut(self, text: str, place: int) -> bool:
        """Can no token reach across `place`, whatever follows?"""
        return text[place - 1 : place + 1] not in self._neighbors
