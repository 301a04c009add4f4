"""`folio chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import torch

from folio.config import UserError, nearest
from folio.infer.engine import Engine
from folio.infer.request import Request
from folio.infer.sampling import Sampling
from folio.stages.use import load_run, sampling_of
from folio.text.chat import ChatTemplate

HELP = """\
Write a message; what ends with \\ goes on in the next line, and \"\"\" opens and
closes a message of several lines. Ctrl-C stops an answer, Ctrl-D leaves.
  /reset             forget the conversation
  /undo              forget the last message and its answer
  /again             answer the last message anew
  /system TEXT       say who the model is to be (no text: nothing), and start over
  /temperature X     0 is greedy      /top-p X   /top-k N   /max-new-tokens N
  /save FILE         the conversation as one line of JSON, as `folio sft` reads it
  /help  /quit"""
LEAST_ANSWER = 16  # tokens that must be left for it
CONTINUES, BLOCK = "\\", '"""'


@dataclass
class Conversation:
    """What has been said, and how answers are to be chosen."""

    system: str = ""
    sampling: Sampling = field(default_factory=lambda: Sampling(0.7))
    max_new_tokens: int = 512
    seed: int = 0
    turns: list[dict[str, str]] = field(default_factory=list)  # user and assistant

    @property
    def messages(self) -> list[dict[str, str]]:
        """The whole of it, for the chat template."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return opening + self.turns

    def say(self, role: str, content: str) -> None:
        """Add one turn."""
        self.turns.append({"role": role, "content": content})

    def undo(self) -> str | None:
        """Forget the last user's message and what followed; returns it."""
        while self.turns:
            turn = self.turns.pop()
            if turn["role"] == "user":
                return turn["content"]
        return None

    def shorten(self, fits: Callable[[list[dict[str, str]]], bool]) -> int:
        """Drop the oldest exchanges until the rest fits; how many turns went."""
        dropped = 0
        while not fits(self.messages):
            later = [i for i, t in enumerate(self.turns) if t["role"] == "user" and i]
            if not later:
                raise UserError(
                    "this message alone is longer than the model can read; say less"
                )
            self.turns = self.turns[later[0] :]
            dropped += later[0]
        return dropped


def read_message(lines: Iterator[str]) -> str | None:
    """The next message, of one or several lines; None at the end of the input.

    >>> read_message(iter(["one \\\\", "two"]))
    'one \\ntwo'
    """
    first = next(lines, None)
    if first is None:
        return None
    if first.strip().startswith(BLOCK):
        return _read_block(first.strip().removeprefix(BLOCK), lines)
    message = first
    while message.endswith(CONTINUES):
        more = next(lines, "")
        message = message.removesuffix(CONTINUES) + "\n" + more
    return message


def _read_block(first: str, lines: Iterator[str]) -> str:
    """Lines up to a closing mark, or to the end of the input."""
    block, line = [], first
    while line is not None and not line.rstrip().endswith(BLOCK):
        block.append(line)
        line = next(lines, None)
    if line is not None:
        block.append(line.rstrip().removesuffix(BLOCK))
    return "\n".join(block).strip("\n")


NUMBERS = {
    "temperature": float,
    "top-p": float,
    "top-k": int,
    "max-new-tokens": int,
}
COMMANDS = (*NUMBERS, "reset", "undo", "again", "system", "save", "help", "quit")


def obey(command: str, talk: Conversation) -> str:
    """Carry out "/name argument"; returns what to tell the user.

    Raises a UserError for what can't be done, and leaves all as it was.
    """
    name, _, argument = command.removeprefix("/").partition(" ")
    argument = argument.strip()
    if name in NUMBERS:
        return _set_number(name, argument, talk)
    match name:
        case "reset":
            talk.turns.clear()
            return "the conversation starts anew"
        case "undo":
            return "forgotten" if talk.undo() is not None else "nothing to forget"
        case "system":
            talk.system = argument
            talk.turns.clear()
            return f"system: {argument}" if argument else "no system message"
        case "save":
            return _save(argument, talk)
        case "help":
            return HELP
    raise UserError(f"/{name}: unknown command{nearest(name, COMMANDS)}")


def _set_number(name: str, text: str, talk: Conversation) -> str:
    try:
        value = NUMBERS[name](text)
    except ValueError:
        kind = NUMBERS[name].__name__
        raise UserError(f"/{name} {text!r}: give a number ({kind})") from None
    field_name = name.replace("-", "_")
    if field_name == "max_new_tokens":
        if value < 1:
            raise UserError(f"/max-new-tokens {value}: must be at least 1")
        talk.max_new_tokens = value
    else:
        talk.sampling = dataclasses.replace(talk.sampling, **{field_name: value})
    return f"{name} = {value:g}"


def _save(path: str, talk: Conversation) -> str:
    if not path:
        raise UserError("/save: to which file?")
    if not talk.turns:
        raise UserError("/save: nothing has been said yet")
    line = json.dumps({"messages": talk.messages}, ensure_ascii=False)
    try:
        with Path(path).expanduser().open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise UserError(f"/save {path}: {error.strerror}") from None
    return f"added to {path}"


@dataclass
class Terminal:
    """Reads messages, writes answers, obeys commands, until the input ends."""

    engine: Engine
    talk: Conversation
    lines: Iterator[str]
    out: TextIO = sys.stdout
    interactive: bool = False  # a person watches: prompts, speed, color

    def run(self) -> None:
        """The whole conversation."""
        self.note("/help lists what you can do; Ctrl-D leaves")
        while (message := read_message(self.lines)) is not None:
            try:
                if message.strip() in ("/quit", "/exit"):
                    break
                self.take(message)
            except UserError as error:
                print(f"folio: {error}", file=sys.stderr)
        self.note("")

    def take(self, message: str) -> None:
        """One message or command."""
        if not message.strip():
            return
        if message.strip() == "/again":
            again = self.talk.undo()
            if again is None:
                raise UserError("/again: nothing has been said yet")
            message = again
        elif message.startswith("/"):
            self.note(obey(message.strip(), self.talk))
            return
        self.talk.say("user", message)
        try:
            dropped = self.talk.shorten(self.fits)
        except UserError:
            self.talk.undo()
            raise
        if dropped:
            self.note(f"the oldest {dropped} turns no longer fit and are forgotten")
        self.talk.say("assistant", self.speak())

    def fits(self, messages: list[dict[str, str]]) -> bool:
        """Can the model read all of it, and still have room for an answer?"""
        limit = self.engine.model.config.max_seq_len
        return self.length(messages) + LEAST_ANSWER <= limit

    def length(self, messages: list[dict[str, str]]) -> int:
        """Tokens of the conversation, with what opens the answer."""
        return len(Request(messages).ids(self.engine.tokenizer))

    def speak(self) -> str:
        """Stream one answer to the screen; Ctrl-C ends it early."""
        talk, start, text = self.talk, time.perf_counter(), ""
        room = self.engine.model.config.max_seq_len - self.length(talk.messages)
        handle = self.engine.submit(
            Request(
                talk.messages,
                max_new_tokens=min(talk.max_new_tokens, room),
                sampling=talk.sampling,
                seed=talk.seed + len(talk.turns),
            )
        )
        try:
            for piece in handle.pieces():
                text += piece
                self.out.write(piece)
                self.out.flush()
        except KeyboardInterrupt:
            handle.cancel()  # what has been said stays said
        self.out.write("\n")
        tokens, seconds = len(handle.completions[0].ids), time.perf_counter() - start
        self.note(f"{tokens} tokens, {tokens / max(seconds, 1e-9):.0f} per second")
        return text

    def note(self, text: str) -> None:
        """Something about the conversation, not of it: for a person, and dim."""
        if self.interactive:
            print(f"\033[2m{text}\033[0m", file=sys.stderr)


def typed_lines(prompt: str) -> Iterator[str]:
    """Lines as a person types them, until Ctrl-D; Ctrl-C only drops a line."""
    import readline  # noqa: F401  (arrow keys and history in input())

    while True:
        try:
            yield input(prompt)
        except KeyboardInterrupt:
            print()
        except EOFError:
            return


def chat(options: argparse.Namespace) -> None:
    """`folio chat`: talk with the model of a run."""
    sampling = sampling_of(options)
    model, tokenizer = load_run(options.run, options.device)
    ChatTemplate.of(tokenizer)  # raises if nobody knows how this model chats
    talk = Conversation(options.system, sampling, options.max_new_tokens, options.seed)
    watched = sys.stdin.isatty()
    lines = typed_lines("> ") if watched else (line.rstrip("\n") for line in sys.stdin)
    with torch.inference_mode():
        Terminal(Engine(model, tokenizer), talk, lines, interactive=watched).run()
