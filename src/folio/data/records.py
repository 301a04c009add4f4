"""Conversations, preferences and prompts out of files, in the forms that people share.

    conversations   messages | conversations (ShareGPT) | instruction, input, output
                    (Alpaca) | question, answer
    preferences     prompt or instruction, with chosen and rejected | question, with
                    solutions that are judged (see `folio.data.solutions`)
    prompts         question, answer (GSM8K: `#### 42` at the end) | prompt, answer

in .jsonl, .json (a list) or .parquet. The form is recognized from the fields of each
record. What does not fit is refused with its place; nothing is passed over silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from folio.config import UserError, nearest
from folio.data.record_files import Record, kind_of, read_records
from folio.text.chat import Message, check_conversation

Say = Callable[[str], None]
Messages = tuple[Message, ...]

SPEAKERS = {  # ShareGPT's names for the roles
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
}
FINAL_ANSWER = "####"  # before the number at the end of a GSM8K solution


@dataclass(frozen=True)
class Conversation:
    """Messages of which the assistant's are to be learned; `where` they are from."""

    messages: Messages
    where: str = ""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, the first preferred, by `margin` if that is known."""

    prompt: Messages
    chosen: str
    rejected: str
    margin: float = 0.0
    category: str = ""
    where: str = ""


@dataclass(frozen=True)
class Prompt:
    """A prompt with an answer that can be checked.

    `response` is a whole gold response, `answer` what of it must be right. `item` is
    whatever else a verifier needs to know.
    """

    messages: Messages
    answer: str
    response: str
    task: str = "all"
    item: Any = field(default=None, compare=False)
    where: str = ""

    @property
    def text(self) -> str:
        """The last message: what was asked."""
        return self.messages[-1]["content"]


# ------------------------------------------------------------------- whole files


def read_conversations(path: str | Path) -> list[Conversation]:
    """Every record as a conversation; UserError for one that can't be learned from."""
    return _all(path, conversation_of)


def read_pairs(path: str | Path, say: Say = print) -> list[Pair]:
    """Every preference; where both answers are the same text, there is none.

    Those are left out, and `say` is told how many.
    """
    from folio.data.solutions import is_judged, solution_pairs  # which needs Pair

    pairs = [
        pair
        for record in read_records(path)
        for pair in (solution_pairs(record) if is_judged(record) else [pair_of(record)])
    ]
    if not pairs:
        raise UserError(f"{path}: holds no preferences")
    kept = [pair for pair in pairs if pair.chosen != pair.rejected]
    if len(kept) < len(pairs):
        say(
            f"{path}: {len(pairs) - len(kept)} of {len(pairs)} pairs left out: chosen"
            " and rejected are the same"
        )
    if not kept:
        raise UserError(f"{path}: chosen and rejected are the same in every pair")
    return kept


def read_prompts(path: str | Path) -> list[Prompt]:
    """Every record as a prompt with a known answer."""
    return _all(path, prompt_of)


T = TypeVar("T")


def _all(path: str | Path, parse: Callable[[Record], T]) -> list[T]:
    found = [parse(record) for record in read_records(path)]
    if not found:
        raise UserError(f"{path}: holds no records")
    return found


# ----------------------------------------------------------------- single records


def conversation_of(record: Record) -> Conversation:
    """The messages of a record, whichever form it has."""
    if "messages" in record.fields:
        messages = _messages(record, "messages")
    elif "conversations" in record.fields:
        messages = _shared(record)
    elif "instruction" in record.fields:
        messages = [*_instruction(record), _said("assistant", _text(record, "output"))]
    elif "question" in record.fields:
        asked = _said("user", _text(record, "question", filled=True))
        messages = [asked, _said("assistant", _text(record, "answer"))]
    else:
        raise _unknown(record, "messages, conversations, instruction or question")
    messages = _checked(record, messages)
    if all(message["role"] != "assistant" for message in messages):
        raise UserError(
            f"{record.where}: the assistant says nothing, so there is nothing to learn"
        )
    return Conversation(messages, record.where)


def pair_of(record: Record) -> Pair:
    """A preference; the prompt may be text, messages, or what both answers begin with.

    Answers are texts, or messages the last of which is the answer.
    """
    if "prompt" in record.fields:
        prompt = _prompt(record)
    elif "instruction" in record.fields:
        prompt = _instruction(record)
    elif isinstance(record.fields.get("chosen"), list):
        prompt = []
    else:
        raise _unknown(record, "prompt or instruction, with chosen and rejected")
    before, chosen = _answer(record, "chosen", prompt)
    also_before, rejected = _answer(record, "rejected", prompt)
    if before != also_before:
        raise UserError(
            f"{record.where}: fields 'chosen' and 'rejected' answer different prompts"
        )
    margin = record.fields.get("margin")
    if margin is not None and (
        isinstance(margin, bool) or not isinstance(margin, (int, float)) or margin < 0
    ):
        raise UserError(
            f"{record.where}: field 'margin' holds {margin!r}, not a number from 0 up"
        )
    category = record.fields.get("category")
    return Pair(
        _checked(record, before),
        chosen,
        rejected,
        float(margin or 0.0),
        "" if category is None else _text(record, "category"),
        record.where,
    )


def prompt_of(record: Record) -> Prompt:
    """A question and its answer: GSM8K's, whose solutions end with `#### 42`, or any.

    A field `task` names the group under which results are reported.
    """
    answer = _text(record, "answer", filled=True)
    if "question" in record.fields:
        messages = [_said("user", _text(record, "question", filled=True))]
        _, mark, final = answer.rpartition(FINAL_ANSWER)
        if not mark or not final.strip():
            raise UserError(
                f"{record.where}: field 'answer' does not end with"
                f" '{FINAL_ANSWER} number'; name the question 'prompt' if the whole"
                " answer is to be checked"
            )
        response, answer = answer, final.strip()
    elif "prompt" in record.fields:
        messages, response = _prompt(record), answer
    else:
        raise _unknown(record, "question or prompt, with answer")
    task = _text(record, "task") if record.fields.get("task") is not None else "all"
    messages = _checked(record, messages)
    return Prompt(messages, answer, response, task, where=record.where)


def _instruction(record: Record) -> list[Message]:
    """Alpaca's prompt: the input, if there is any, after an empty line."""
    text = _text(record, "instruction", filled=True)
    if record.fields.get("input") is not None:
        given = _text(record, "input")
        text = f"{text}\n\n{given}" if given else text
    return [*_system(record), _said("user", text)]


def _prompt(record: Record) -> list[Message]:
    if isinstance(record.fields["prompt"], list):
        return _messages(record, "prompt")
    asked = _said("user", _text(record, "prompt", filled=True))
    return [*_system(record), asked]


def _system(record: Record) -> list[Message]:
    if not record.fields.get("system"):
        return []
    return [_said("system", _text(record, "system"))]


def _shared(record: Record) -> list[Message]:
    messages = _system(record)
    for index, turn in enumerate(_list(record, "conversations")):
        where = f"{record.where}: field 'conversations[{index}]'"
        if not isinstance(turn, Mapping) or not {"from", "value"} <= set(turn):
            raise UserError(f"{where}: expected an object with 'from' and 'value'")
        speaker = turn["from"]
        if speaker not in SPEAKERS:
            raise UserError(
                f"{where}: from = {speaker!r}{nearest(str(speaker), list(SPEAKERS))}"
            )
        messages.append(_said(SPEAKERS[speaker], turn["value"]))
    return messages


def _messages(record: Record, name: str) -> list[Message]:
    messages = _list(record, name)
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise UserError(
                f"{record.where}: field '{name}[{index}]': expected an object with"
                " 'role' and 'content'"
            )
    return [_said(message["role"], message["content"]) for message in messages]


def _answer(
    record: Record, name: str, prompt: list[Message]
) -> tuple[list[Message], str]:
    """(all that was said before, the answer)."""
    if not isinstance(record.fields.get(name), list):
        return prompt, _text(record, name)
    messages = _messages(record, name)
    if not messages or messages[-1]["role"] != "assistant":
        raise UserError(f"{record.where}: field {name!r} must end with the assistant")
    *before, last = messages
    if before[: len(prompt)] == prompt:
        prompt = []  # the answer repeats it
    _checked(record, [*prompt, *before, last])
    return [*prompt, *before], last["content"]


def _said(role: Any, content: Any) -> Message:
    return {"role": role, "content": content}


def _checked(record: Record, messages: Sequence[Message]) -> Messages:
    try:
        check_conversation(messages)
        for index, message in enumerate(messages):
            _check_characters(f"messages[{index}].content", message["content"])
    except UserError as error:
        raise UserError(f"{record.where}: {error}") from None
    return tuple(messages)


def _text(record: Record, name: str, filled: bool = False) -> str:
    if name not in record.fields:
        present = ", ".join(map(repr, record.fields)) or "none"
        raise UserError(
            f"{record.where}: no field {name!r}; the record's fields: {present}"
        )
    text = record.fields[name]
    if not isinstance(text, str):
        raise UserError(
            f"{record.where}: field {name!r} holds {kind_of(text)}, not text"
        )
    if filled and not text.strip():
        raise UserError(f"{record.where}: field {name!r} is empty")
    _check_characters(f"{record.where}: field {name!r}", text)
    return text


def _list(record: Record, name: str) -> list[Any]:
    value = record.fields[name]
    if not isinstance(value, list):
        raise UserError(
            f"{record.where}: field {name!r} holds {kind_of(value)}, not a list"
        )
    return value


def _check_characters(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} has half of a surrogate pair at character {error.start}"
        ) from None


def _unknown(record: Record, wanted: str) -> UserError:
    present = ", ".join(map(repr, record.fields)) or "none"
    return UserError(
        f"{record.where}: no known form; expected {wanted}; the record's fields:"
        f" {present}"
    )
