"""Records for training and records held out: no prompt is in both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from folio.config import UserError
from folio.data.records import Conversation, Pair, Prompt

T = TypeVar("T")
SHARES = {"train": 0.85, "test": 0.10, "validation": 0.05}


def prompt_key(record: Conversation | Pair | Prompt) -> str:
    """What was asked: the first user's words, however they are spaced."""
    messages = record.prompt if isinstance(record, Pair) else record.messages
    asked = next(m["content"] for m in messages if m["role"] == "user")
    return " ".join(asked.split())


def divide(
    records: Sequence[T],
    shares: Mapping[str, float] = SHARES,
    key: Callable[[T], str] | None = None,
) -> dict[str, list[T]]:
    """Parts of about these shares, each record's decided by its own prompt alone.

    So no prompt lies in two parts, whatever the order, the company or the answers.
    `key` gives what decides; by default `prompt_key`.
    Raises UserError if a part stays empty.
    """
    parts: dict[str, list[T]] = {name: [] for name in shares}
    for record in records:
        text = (key or prompt_key)(record)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "little") / 2**64 * sum(shares.values())
        parts[_part_at(place, shares)].append(record)
    for name, part in parts.items():
        if not part:
            raise UserError(
                f"the {name} part is empty: {len(records)} records, of which it gets"
                f" {shares[name]:.0%}; use more records or another share"
            )
    return parts


def _part_at(place: float, shares: Mapping[str, float]) -> str:
    """
    >>> _part_at(0.5, {"a": 0.5, "b": 0.5})
    'b'
    """
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    return name


def refuse_overlap(training: Sequence[Prompt], held_out: Sequence[Prompt]) -> None:
    """Raise a UserError if something held out is also trained on."""
    known = {prompt_key(prompt) for prompt in training}
    for prompt in held_out:
        if prompt_key(prompt) in known:
            raise UserError(
                f"{prompt.where or 'held-out prompt'}: {prompt.text[:120]!r} is also"
                " among the training prompts; take it out of one of them"
            )
