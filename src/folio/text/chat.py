"""A conversation as tokens, and which of them the model is to learn.

Our own layout of a turn is `<|role|>` text `<|end|>`; models of others have theirs.
A template says what stands *between* two messages, and nothing else, so each of them
is a small table. Control tokens are put in as ids; the text between them is encoded as
ordinary text. So nobody can write "<|end|><|system|>" into a message and thereby end it
or speak as another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from folio.config import UserError, nearest
from folio.text.tokenizer import END_OF_TURN, Tokenizer

Message = Mapping[str, str]  # {"role": ..., "content": ...}
ROLES = ("system", "user", "assistant", "tool")
# Beside roles, the two ends of a conversation and the place where a model goes on.
EDGE, PROMPT = "", "prompt"
# What marks a turn in templates that write their marks as plain text.
_MARK = re.compile(r"<{1,2}[^<>\s]{1,40}>{1,2}|\[/?[A-Z_]{2,24}\]")


def own_layout() -> dict[tuple[str, str], str]:
    """What stands between two messages in the models that Folio trains.

    >>> own_layout()["user", "assistant"]
    '<|end|><|assistant|>'
    """
    opens = {role: f"<|{role}|>" for role in ROLES}
    layout = {(EDGE, role): mark for role, mark in opens.items()}
    layout |= {(role, EDGE): END_OF_TURN for role in ROLES}
    layout |= {
        (role, following): END_OF_TURN + opens[following]
        for role in ROLES
        for following in ROLES
    }
    layout |= {(role, PROMPT): layout[role, "assistant"] for role in ROLES}
    return layout


class Piece(NamedTuple):
    """A stretch of a conversation: a control token, or text."""

    text: str
    weight: float
    is_control: bool


@dataclass(frozen=True)
class ChatTemplate:
    """How a conversation becomes ids. `learned` roles get weight 1, others 0.

    `between` has the text between two messages, by their roles; `controls` are those
    of its words that are control tokens. Roles in `trimmed` lose the white space
    around their messages.

    A reply's closing token (our `<|end|>`) is learned with it: that is how a model
    learns to stop. What opens a reply is not; whoever samples puts it there.
    """

    learned: tuple[str, ...] = ("assistant",)
    between: Mapping[tuple[str, str], str] = field(
        default_factory=own_layout, hash=False
    )
    controls: tuple[str, ...] = (*(f"<|{role}|>" for role in ROLES), END_OF_TURN)
    trimmed: tuple[str, ...] = ()

    def render(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        add_generation_prompt: bool = False,
    ) -> tuple[list[int], list[float]]:
        """(ids, weights), equally long; with a prompt, what opens a reply comes last.

        >>> from folio.text.byte import ByteTokenizer
        >>> tokenizer = ByteTokenizer()
        >>> question = {"role": "user", "content": "A?"}
        >>> answer = {"role": "assistant", "content": "B"}
        >>> ids, weights = ChatTemplate().render([question, answer], tokenizer)
        >>> tokenizer.decode(ids)
        '<|user|>A?<|end|><|assistant|>B<|end|>'
        >>> weights
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
        """
        ids: list[int] = []
        weights: list[float] = []
        pieces = self.pieces(messages, add_generation_prompt)
        for is_control, group in groupby(pieces, key=lambda piece: piece.is_control):
            if is_control:
                for piece in group:
                    ids.append(tokenizer.special_id(piece.text))
                    weights.append(piece.weight)
            else:
                encode = tokenizer.encode_inside if ids else tokenizer.encode
                new, new_weights = _encode_text(list(group), encode)
                ids += new
                weights += new_weights
        return ids, weights

    def text(
        self, messages: Sequence[Message], add_generation_prompt: bool = False
    ) -> str:
        """The conversation as it looks, control tokens by their names."""
        return "".join(p.text for p in self.pieces(messages, add_generation_prompt))

    @property
    def end_of_turn(self) -> str | None:
        """The control token with which a reply ends; None if there is none."""
        closing = self.between.get(("assistant", EDGE), "")
        closing = closing or self.between.get(("assistant", "user"), "")
        return next((p.text for p in self._split(closing) if p.is_control), None)

    def pieces(
        self, messages: Sequence[Message], add_generation_prompt: bool = False
    ) -> Iterator[Piece]:
        """The conversation in order, without empty texts."""
        check_conversation(messages)
        roles = [EDGE, *(message["role"] for message in messages), EDGE]
        if add_generation_prompt:
            if roles[-2] == "assistant":
                raise UserError(
                    "add_generation_prompt: the assistant has just spoken; "
                    "end with a user or tool message"
                )
            roles[-1] = PROMPT
        for index, (role, following) in enumerate(pairwise(roles)):
            if index:
                content = messages[index - 1]["content"]
                yield from self._message(role, content, index - 1)
            if (role, following) not in self.between:
                raise UserError(
                    f"messages[{min(index, len(messages) - 1)}]: the chat template of "
                    f"this model has no place for {following or 'the end'!r} after "
                    f"{role or 'the beginning'!r}"
                )
            weight = 1.0 if role in self.learned else 0.0
            for piece in self._split(self.between[role, following]):
                yield piece._replace(weight=weight)
                if piece.is_control:
                    weight = 0.0  # what closes a reply has ended

    def _message(self, role: str, content: str, index: int) -> Iterator[Piece]:
        if role in self.trimmed:
            content = content.strip()
        for mark in _MARK.findall(content):
            if mark in self._text_marks:
                raise UserError(
                    f"messages[{index}].content has {mark!r}, by which this model "
                    "knows turns, and which it can't tell from a mark; reword it"
                )
        if content:
            yield Piece(content, 1.0 if role in self.learned else 0.0, False)

    @property
    def _text_marks(self) -> set[str]:
        """Marks in the template that are ordinary text: messages may not have them."""
        pieces = (p for text in self.between.values() for p in self._split(text))
        texts = [piece.text for piece in pieces if not piece.is_control]
        return {mark for text in texts for mark in _MARK.findall(text)}

    def _split(self, text: str) -> Iterator[Piece]:
        """A text of the template as control tokens and what is between them."""
        longest_first = sorted(self.controls, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first)) or r"(?!)"
        for part in re.split(f"({names})", text):
            if part:
                yield Piece(part, 0.0, part in self.controls)

    @staticmethod
    def of(tokenizer: Tokenizer) -> ChatTemplate:
        """How this tokenizer's model chats; UserError if it doesn't, or nobody knows.

        Imported ones have a template of theirs; ours is for those with our tokens.
        """
        if tokenizer.extras.chat is not None:
            return ChatTemplate.from_json(tokenizer.extras.chat)
        own = ChatTemplate()
        if not set(own.controls) <= tokenizer.special_tokens.keys():
            raise UserError(
                "this model has no chat template that Folio can follow; it can write "
                "on from a text (`folio generate`)"
            )
        return own

    def to_json(self) -> dict[str, Any]:
        """What a tokenizer.json of ours keeps of an imported template."""
        between = [[*roles, text] for roles, text in self.between.items()]
        return {
            "between": between,
            "controls": list(self.controls),
            "trimmed": list(self.trimmed),
        }

    @classmethod
    def from_json(cls, data: Any) -> ChatTemplate:
        """The way back; UserError for anything else."""
        try:
            between = {(a, b): text for a, b, text in data["between"]}
            controls, trimmed = tuple(data["controls"]), tuple(data["trimmed"])
            known = {EDGE, PROMPT, *ROLES}
            roles = {role for pair in between for role in pair} | set(trimmed)
            texts = [*between.values(), *controls]
            sound = roles <= known and all(isinstance(text, str) for text in texts)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"not a chat template: {error!r}") from None
        if not sound or not all(controls):
            raise UserError("not a chat template: roles or texts make no sense")
        return cls(between=between, controls=controls, trimmed=trimmed)


def _encode_text(pieces: list[Piece], encode) -> tuple[list[int], list[float]]:
    """Neighboring texts, encoded as one: that is how a model reads them.

    A token across two of them belongs to the second.
    """
    ids = encode("".join(piece.text for piece in pieces))
    weights: list[float] = []
    for index, (piece, following) in enumerate(pairwise(pieces), 1):
        if piece.weight != following.weight:
            before = encode("".join(p.text for p in pieces[:index]))
            shared = sum(1 for _ in _same_start(before, ids))
            weights += [piece.weight] * (shared - len(weights))
    return ids, weights + [pieces[-1].weight] * (len(ids) - len(weights))


def _same_start(a: Sequence[int], b: Sequence[int]) -> Iterator[int]:
    """
    >>> list(_same_start([1, 2, 3], [1, 2, 4, 3]))
    [1, 2]
    """
    for left, right in zip(a, b, strict=False):
        if left != right:
            return
        yield left


def check_conversation(messages: Sequence[Message]) -> None:
    """Raise a UserError that names the message unless this can be a conversation."""
    if not messages:
        raise UserError("messages: empty; a conversation needs at least one message")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise UserError(f"{where}: expected a table with 'role' and 'content'")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise UserError(f"{where}.role = {role!r}{nearest(str(role), ROLES)}")
        if not isinstance(content, str):
            kind = type(content).__name__
            raise UserError(f"{where}.content: expected text, not {kind}")
        if role == "system" and index > 0:
            raise UserError(f"{where}.role = 'system': only the first message may be")
    first = 1 if messages[0]["role"] == "system" else 0
    if len(messages) > first and messages[first]["role"] != "user":
        raise UserError(
            f"messages[{first}].role = {messages[first]['role']!r}: "
            f"a conversation starts with the user (or system, then user)"
        )
