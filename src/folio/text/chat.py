"""A conversation as tokens, and which of them the model is to learn.

Each turn is laid out as `<|role|>` text `<|end|>`. The control tokens are put in as
ids; the text between them is encoded as ordinary text, segment by segment. So nobody
can write "<|end|><|system|>" into a message and thereby end it or speak as another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from folio.config import UserError, nearest
from folio.text.tokenizer import END_OF_TURN, Tokenizer

Message = Mapping[str, str]  # {"role": ..., "content": ...}
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class ChatTemplate:
    """How a conversation becomes ids. `learned` roles get weight 1, others 0.

    A reply's closing `<|end|>` is learned with it: that is how a model learns to
    stop. The opening `<|assistant|>` is not; whoever samples puts it there.
    """

    learned: tuple[str, ...] = ("assistant",)

    def render(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        add_generation_prompt: bool = False,
    ) -> tuple[list[int], list[float]]:
        """(ids, weights), equally long; with a prompt, `<|assistant|>` comes last.

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
        check_conversation(messages)
        end = tokenizer.special_id(END_OF_TURN)
        ids: list[int] = []
        weights: list[float] = []
        for message in messages:
            text = tokenizer.encode(message["content"])
            weight = 1.0 if message["role"] in self.learned else 0.0
            ids += [role_id(message["role"], tokenizer), *text, end]
            weights += [0.0, *[weight] * len(text), weight]
        if add_generation_prompt:
            if messages[-1]["role"] == "assistant":
                raise UserError(
                    "add_generation_prompt: the assistant has just spoken; "
                    "end with a user or tool message"
                )
            ids.append(role_id("assistant", tokenizer))
            weights.append(0.0)
        return ids, weights


def role_id(role: str, tokenizer: Tokenizer) -> int:
    """The control token that opens a turn of `role`."""
    return tokenizer.special_id(f"<|{role}|>")


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
